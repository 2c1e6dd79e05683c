"""The schedule of plop_paper.py on VOC 11-1: PLOP's own."""

_base_ = './voc_11-1_plop.py'
