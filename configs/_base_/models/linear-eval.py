_base_ = ['baseline.py']

model = dict(type='LinearEvaluation')
