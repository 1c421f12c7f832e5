"""The study of augmenters: does an augmenter bring anything?"""
