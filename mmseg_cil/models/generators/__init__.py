"""Generators of images for the replay of old classes without data."""

from mmseg_cil.models.generators.generated_replay import GeneratedReplay
from mmseg_cil.models.generators.generator_training import GeneratorTraining
from mmseg_cil.models.generators.layout_generator import LayoutGenerator

__all__ = ['GeneratedReplay', 'GeneratorTraining', 'LayoutGenerator']
