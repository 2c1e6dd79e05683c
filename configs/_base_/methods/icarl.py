"""iCaRL: Rebuffi et al., "iCaRL: Incremental Classifier and Representation Learning", CVPR 2017,
with its exemplars: LwF-MC (`lwf_mc.py`) and a memory filled by herding.

The losses are those of LwF-MC: binary cross-entropy on the labels, summed over
classes, plus binary cross-entropy of the old outputs with the teacher's sigmoid
times 10 (fcdl94/MiB, train.py). The memory has a fixed budget of images that
the classes seen share; a class's images are those whose mean feature, greedily,
is nearest the class's mean (algorithm 4), and later steps shorten its list
(algorithm 5). Exemplars are drawn like the step's own images and are learnt
with the labels of all classes known when they are replayed.

Papers on segmentation call LwF-MC, without exemplars, iCaRL; published figures
under that name are in `configs/lwf_mc`. No figure with exemplars in this form
is known to us.

Choices for segmentation, where iCaRL has one class an image: an image's feature
for a class is the mean of the unit-length embeddings (the classifier's input)
of its pixels; one image may be kept for several classes and counts once; the
background keeps none. The budgets, 100 images and 300 on ADE20K, are those of
SSUL-M (clovaai/SSUL, --mem_size); 100 on Cityscapes by city is our choice,
where domains stand for classes.

Where a step's own images show old classes, which they do often on crowded data,
their labels call them background and contradict the exemplars'; memory.ratio
raises the share of exemplars.

Deviation: images are classified by the network's classifier, not by the nearest
mean of exemplars, which this package does not have: its checkpoints are plain
MMSegmentation networks, evaluated as such.
"""

method = dict(
    name='icarl',
    by_protocol='icarl',  # memory.budget
    loss_decode=dict(type='SigmoidCrossEntropyLoss', loss_weight=1.0),
    distillers=[
        dict(type='LogitDistiller', loss=dict(type='SigmoidDistillationLoss', loss_weight=10.0)),
    ],
    classifier_init='random',
    memory=dict(per='total', selection='herding', labels='at_replay'),
)
