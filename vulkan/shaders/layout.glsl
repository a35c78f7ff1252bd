// core's TokenLayout: image tokens of every image in turn, then context tokens of every image in turn.

uint image_of(uint row, uint images, uint image_tokens, uint context_tokens) {
    uint image_rows = images * image_tokens;
    return row < image_rows ? row / image_tokens : (row - image_rows) / context_tokens;
}

uint row_of(uint image, uint token, uint images, uint image_tokens, uint context_tokens) {
    return token < image_tokens ? image * image_tokens + token
                                : images * image_tokens + image * context_tokens + (token - image_tokens);
}
