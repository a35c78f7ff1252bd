use crate::picture::Picture;

/// Binary PPM (P6).
pub(crate) fn ppm(picture: &Picture) -> Vec<u8> {
    let mut out = format!("P6\n{} {}\n255\n", picture.width, picture.height).into_bytes();
    out.extend(&picture.rgb);
    out
}
