//! Channels in another order.

/// `out[i] = row[order[i]]` for each row of `order.len()` values.
pub fn gather_rows(rows: &[f32], order: &[u16], out: &mut [f32]) {
    for (row, out) in rows.chunks_exact(order.len()).zip(out.chunks_exact_mut(order.len())) {
        for (out, &channel) in out.iter_mut().zip(order) {
            *out = row[usize::from(channel)];
        }
    }
}

/// `out[order[i]] = row[i]`.
pub fn scatter<T: Copy>(row: &[T], order: &[u16], out: &mut [T]) {
    for (&x, &channel) in row.iter().zip(order) {
        out[usize::from(channel)] = x;
    }
}
