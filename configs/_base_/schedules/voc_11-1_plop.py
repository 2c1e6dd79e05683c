"""PLOP's schedule for VOC 11-1, which is 10-1 with the background counted."""

_base_ = './voc_10-1_plop.py'
