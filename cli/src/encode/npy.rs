/// NumPy's header, padded to 64 bytes, of a little-endian f32 array in C order.
pub(crate) fn header(shape: &[usize]) -> Vec<u8> {
    let mut dims: String = shape.iter().map(|d| format!("{d}, ")).collect();
    if shape.len() > 1 {
        dims.truncate(dims.len() - 2);
    } else {
        dims = dims.trim_end().to_owned();
    }
    let mut dict = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({dims}), }}");
    let fixed = 6 + 2 + 2; // magic, version, length of the dictionary
    let padded = (fixed + dict.len() + 1).next_multiple_of(64) - fixed;
    dict.push_str(&" ".repeat(padded - dict.len() - 1));
    dict.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((padded as u16).to_le_bytes());
    out.extend(dict.as_bytes());
    out
}

/// The values in NumPy's byte order.
pub(crate) fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_what_numpy_writes() {
        let text = |shape: &[usize]| String::from_utf8_lossy(&header(shape)[10..]).trim_end().to_owned();
        assert_eq!(text(&[5]), "{'descr': '<f4', 'fortran_order': False, 'shape': (5,), }");
        assert_eq!(text(&[1, 3, 64, 64]), "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, 64, 64), }");
        assert_eq!(header(&[1, 3, 64, 64]).len() % 64, 0);
    }
}
