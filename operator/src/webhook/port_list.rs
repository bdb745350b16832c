//! Lists of ports such as `8080,9148-9150`, as sysctls and the annotations of meshes have them.

/// Adds a port at the end, unless the list has it.
pub(super) fn add(list: &mut String, port: u16) {
    if !has(list, port) {
        *list = if list.trim().is_empty() { port.to_string() } else { format!("{list},{port}") };
    }
}

/// Whether the list has this port, by itself or in a range.
fn has(list: &str, port: u16) -> bool {
    list.split(',').any(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<u16>().ok();
        number(first).is_some_and(|first| first <= port) && number(last).is_some_and(|last| port <= last)
    })
}
