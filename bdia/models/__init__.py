"""Reference models, a file each: `gpt` (GPT-2's shape, nanoGPT's names), `vit` (the paper's ViT-small), `resnet` (a
pre-activation ResNet for CIFAR, of the paper's footnote 1).

None knows anything about reversibility: their block loops are plain, and `bdia.attach` takes them as it would any
other residual network.
"""
