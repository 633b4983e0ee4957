_base_ = ['../../_base_/in1k_224.py', '../../_base_/timm_classifier.py']
model = dict(model_name='convnextv2_pico')
