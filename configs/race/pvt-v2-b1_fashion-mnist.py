_base_ = './resnet18_fashion-mnist.py'
model = dict(model_name='pvt_v2_b1')
