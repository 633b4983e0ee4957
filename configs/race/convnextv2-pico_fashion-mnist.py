_base_ = './resnet18_fashion-mnist.py'
model = dict(model_name='convnextv2_pico')
