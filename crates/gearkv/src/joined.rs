//! Arrays of several heads, one after the other.

/// One field of one form of `Self` in each of `parts`, joined. Parts of another form have nothing to give.
macro_rules! joined {
    ($parts:ident, $form:ident, $field:ident) => {
        $parts
            .clone()
            .filter_map(|part| match part {
                Self::$form { $field, .. } => Some(&**$field),
                _ => None,
            })
            .collect::<Vec<_>>()
            .concat()
            .into()
    };
}

pub(crate) use joined;
