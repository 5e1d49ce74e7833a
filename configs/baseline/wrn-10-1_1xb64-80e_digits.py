_base_ = ['../_base_/networks/wrn-10-1.py', '../_base_/recipes/1xb64-80e_digits.py']

model = dict(head=dict(num_classes=10))
