_base_ = ['../../_base_/in1k_256.py', '../../_base_/timm_classifier.py']
model = dict(model_name='mobilevitv2_150')
