_base_ = './scopevit-xtiny_fashion-mnist.py'
model = dict(backbone=dict(arch='tiny'))
