"""The sample world: scenes, their pictures, clips and sentences."""
