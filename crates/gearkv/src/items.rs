//! Some of the batch items of an array.

/// Of each row of `batch` items those that `items` names, in that order. `values` is `[rows, batch, item]`.
pub(crate) fn picked<T: Copy>(values: &[T], batch: usize, item: usize, items: &[u32]) -> Vec<T> {
    let mut picked = Vec::new();
    if item > 0 {
        picked.reserve_exact(values.len() / batch * items.len());
        for row in values.chunks_exact(batch * item) {
            for &i in items {
                picked.extend_from_slice(&row[i as usize * item..][..item]);
            }
        }
    }
    picked
}
