_base_ = './resnet18_fashion-mnist.py'
model = dict(model_name='edgenext_small', ls_init_value=0.1)
