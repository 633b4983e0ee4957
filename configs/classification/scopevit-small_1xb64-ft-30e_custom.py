_base_ = './scopevit-tiny_1xb64-ft-30e_custom.py'
model = dict(backbone=dict(arch='small'), head=dict(in_channels=512))
