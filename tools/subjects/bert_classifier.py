"""BERT (Devlin et al. 2019) that classifies a text: read out at [CLS] through its pooler and a linear classifier."""

from typing import Any

from torch import nn

from tools.subjects.bert import ENCODER
from tools.subjects.family import Family


def _head(model: Any) -> nn.Module:
    """The pooler without its choice of the first position, and the classifier."""
    pooler = model.bert.pooler
    return nn.Sequential(pooler.dense, pooler.activation, model.classifier)


FAMILY = Family(
    name="bert_classifier",
    architectures=("BertForSequenceClassification",),
    stacks=(ENCODER,),
    head=_head,
    read="first",
    port="text-class",
    refusals=(("next_token", "it gives a text one of its classes; it has no output for tokens"),),
)
