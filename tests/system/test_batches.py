"""transfer.system.batches: rows come out in their order, whatever the batch sizes."""

import jax
import numpy as np
import pytest

from transfer.system.batches import in_batches


@pytest.mark.parametrize("number, shapes", [(1, [2]), (2, [2]), (3, [5]), (5, [5]), (13, [5] * 3)])
def test_batches_have_a_size_that_is_compiled_for_and_rows_keep_their_order(number, shapes):
    seen, rows = [], np.arange(number * 3.0).reshape(number, 3)

    def function(batch):
        seen.append(len(batch))
        return batch * 2

    np.testing.assert_array_equal(in_batches(function, rows, (2, 5)), rows * 2)
    assert seen == shapes


def test_trees_go_in_and_come_out():
    rows = {"a": np.arange(7), "b": np.arange(14).reshape(7, 2)}
    function = jax.jit(lambda batch: (batch["a"] + batch["b"].sum(1), {"c": batch["b"]}))
    total, rest = in_batches(function, rows, (4,))
    np.testing.assert_array_equal(total, rows["a"] + rows["b"].sum(1))
    np.testing.assert_array_equal(rest["c"], rows["b"])


def test_no_rows_give_no_rows_of_the_right_form():
    found = in_batches(lambda batch: batch[:, :2].astype(np.int32), np.zeros((0, 5)), (3,))
    assert found.shape == (0, 2) and found.dtype == np.int32
