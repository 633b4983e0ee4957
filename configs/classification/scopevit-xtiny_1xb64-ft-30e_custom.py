_base_ = './scopevit-tiny_1xb64-ft-30e_custom.py'
model = dict(backbone=dict(arch='xtiny'))
