"""MobileBERT's embeddings for packed rows.

MobileBERT embeds each token together with its two neighbours in the row. At the ends of a window these belong to other
windows, so that packed attention alone does not keep windows apart.
"""

import torch
from transformers import PreTrainedModel
from transformers.models.mobilebert.modeling_mobilebert import MobileBertEmbeddings


def replace_embeddings(model: PreTrainedModel) -> None:
    """Changes the class of the model's embeddings; weights and their names stay the same."""
    for module in model.modules():
        if type(module) is MobileBertEmbeddings and module.trigram_input:
            module.__class__ = PackedMobileBertEmbeddings
            module.trigram_input = False  # PackedMobileBertEmbeddings computes the trigrams
            module.embedding_size = 0  # differs from the hidden size, so that the trigrams are projected to it


class PackedMobileBertEmbeddings(MobileBertEmbeddings):
    """The neighbours of a window's first and last token are those of a padded row: zeros before, the padding token after."""

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
    ) -> torch.Tensor:
        assert input_ids is not None and position_ids is not None, "PackedCollator provides both"
        padding = self.word_embeddings.padding_idx
        assert padding is not None, "MobileBERT has a padding id"
        first = position_ids == 0
        next_ids = torch.where(first.roll(-1, dims=1), padding, input_ids.roll(-1, dims=1))
        own = self.word_embeddings(input_ids)
        previous = own.roll(1, dims=1).masked_fill(first[..., None], 0)
        trigrams = torch.cat([self.word_embeddings(next_ids), own, previous], dim=2)
        return super().forward(token_type_ids=token_type_ids, position_ids=position_ids, inputs_embeds=trigrams)
