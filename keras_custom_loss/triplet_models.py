"""The triplet model in two forms: with one random wrong answer, and with a batch of wrong ones.

Article: Keras中自定义复杂的loss函数 https://kexue.fm/archives/4493 (its second loss)
Used by: experiments/triplet.py, answer.py; train.py holds the post's own network

Symbols: q → question   A_right, A_wrong → right, wrong   m → margin   N → batch
         L = max(0, m + cos(q, A_wrong) − cos(q, A_right))
Differs from the article: the LSTM's outputs are pooled over time by their maximum instead of
taking the last one, so that filling at a text's end changes nothing.
Each builder returns (train model: triplet → loss, question encoder, answer encoder), which share
all their weights. The last layer's output is the loss, so the loss function hands it through.
"""

import keras
from keras import ops

from insurance_qa import ANSWER_LENGTH, QUESTION_LENGTH, VOCABULARY_SIZE
from losses import (
    active_fraction,
    batch_triplet_loss,
    cosine,
    mean_of_active,
    pass_through,
    triplet_loss,
    unit,
)

WORD_SIZE, ENCODE_SIZE = 128, 64  # the post's
TERM_SIZE = 2048  # numbers of a term code: in 64 a cosine's noise, 0.12, is as large as what counts


def text_encoders(vocabulary_size: int) -> tuple:
    """(question → code, answer → code), functions of ids (N, length) that give (N, 64).

    One Embedding and one LSTM serve both. The question passes one linear layer more: question and
    answer are not to be encoded by the same map.
    """
    embedding = keras.layers.Embedding(vocabulary_size, WORD_SIZE)
    lstm = keras.layers.LSTM(ENCODE_SIZE, return_sequences=True)
    linear = keras.layers.Dense(ENCODE_SIZE, name="question_map")

    def answer_code(ids):
        filling = ops.expand_dims(ops.cast(ops.equal(ids, 0), "float32"), -1)
        return ops.max(lstm(embedding(ids)) - 4.0 * filling, axis=1)  # the LSTM's lie in (−1, 1)

    def question_code(ids):
        return linear(answer_code(ids))

    return question_code, answer_code


def compiled(inputs: list, loss) -> keras.Model:
    model = keras.Model(inputs, loss)
    optimizer = keras.optimizers.Adam(3e-3)
    metric = keras.metrics.MeanMetricWrapper(active_fraction, name="active_fraction")
    model.compile(optimizer, loss=pass_through, metrics=[metric])
    # Keras traces its first step twice if variables of the optimizer or a metric are made in it
    model.optimizer.build(model.trainable_variables)
    return model


def one_wrong_models(
    margin: float = 0.1,
    vocabulary_size: int = VOCABULARY_SIZE,
    question_length: int = QUESTION_LENGTH,
    answer_length: int = ANSWER_LENGTH,
) -> tuple:
    """The post's triplet: question, right answer, one wrong answer."""
    question_code, answer_code = text_encoders(vocabulary_size)
    question_in = keras.Input((question_length,), dtype="int32")
    right_in = keras.Input((answer_length,), dtype="int32")
    wrong_in = keras.Input((answer_length,), dtype="int32")
    question = question_code(question_in)
    right = answer_code(right_in)
    wrong = answer_code(wrong_in)
    loss = triplet_loss(cosine(question, right), cosine(question, wrong), margin)
    model = compiled([question_in, right_in, wrong_in], loss)
    return model, keras.Model(question_in, question), keras.Model(right_in, right)


def batch_models(
    margin: float = 0.1,
    right_width: int = 1,
    vocabulary_size: int = VOCABULARY_SIZE,
    question_length: int = QUESTION_LENGTH,
    answer_length: int = ANSWER_LENGTH,
    wrongs: int = 8,
    term_size: int = TERM_SIZE,
) -> tuple:
    """Ours: all other questions' right answers are wrong answers, and codes have a second part.

    The second part is the text's term code (insurance_qa.py), past the LSTM, with one linear layer
    more for the question, which starts as no change; it is trained on `wrongs` wrong answers that a
    search engine found. Either part has its loss, and the output is their sum.
    """
    question_code, answer_code = text_encoders(vocabulary_size)
    question_in = keras.Input((question_length,), dtype="int32")
    right_in = keras.Input((answer_length,), dtype="int32")
    name_in = keras.Input((1,), dtype="int32")
    names_in = keras.Input((right_width,), dtype="int32")
    question_terms = keras.Input((term_size,))
    right_terms = keras.Input((term_size,))
    wrong_terms = keras.Input((wrongs, term_size))
    question, right = question_code(question_in), answer_code(right_in)

    start = "zeros"
    term_map = keras.layers.Dense(
        term_size, use_bias=False, kernel_initializer=start, name="term_map"
    )
    forget = keras.layers.Dropout(0.5)  # else the map knows the training answers within an epoch
    q = forget(question_terms)
    a = forget(right_terms)
    w = forget(wrong_terms)
    q = q + 0.1 * term_map(q)  # 0.1: the map learns ten times more slowly than the rest
    wrong_cosines = ops.sum(unit(w) * ops.expand_dims(unit(q), 1), axis=-1)  # (N, W)
    term_loss = mean_of_active(triplet_loss(cosine(q, a), wrong_cosines, margin))

    loss = batch_triplet_loss(question, right, name_in, names_in, margin) + term_loss
    ids = [question_in, right_in, name_in, names_in]
    model = compiled([*ids, question_terms, right_terms, wrong_terms], loss)
    question_both = ops.concatenate([unit(question), unit(q)], axis=-1)
    right_both = ops.concatenate([unit(right), unit(a)], axis=-1)
    question_encoder = keras.Model([question_in, question_terms], question_both)
    return model, question_encoder, keras.Model([right_in, right_terms], right_both)
