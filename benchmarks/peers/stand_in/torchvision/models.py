"""Named on import only."""

mobilenet_v2 = resnet50 = vgg16 = None
