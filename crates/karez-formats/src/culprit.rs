/// The column because of which a record is refused, by halves: `refuses` tells whether it is refused for these columns alone. `None` if none alone is at fault.
pub(crate) fn culprit<C>(columns: &[C], refuses: impl Fn(&[C]) -> bool) -> Option<&C> {
    let mut columns = columns;
    while columns.len() > 1 {
        let (first, second) = columns.split_at(columns.len() / 2);
        columns = if refuses(first) { first } else { second };
    }
    columns.first().filter(|_| refuses(columns))
}
