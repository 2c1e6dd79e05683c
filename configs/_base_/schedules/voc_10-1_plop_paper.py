"""The schedule of plop_paper.py on VOC 10-1: PLOP's own."""

_base_ = './voc_10-1_plop.py'
