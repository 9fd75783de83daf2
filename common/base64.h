/* base64.h - RFC 4648 base64 with padding, and lower-case hex */
#ifndef NA_COMMON_BASE64_H
#define NA_COMMON_BASE64_H

#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

void base64_encode(struct buf *b, const void *p, size_t n); /* appends */
/* Decodes exactly len characters, strict (padding required, no white space,
 * unused bits zero). Returns bytes written to out (room for len/4*3 needed) or -EINVAL. */
long base64_decode(const char *text, size_t len, uint8_t *out);
void hex_encode(char *out /* 2n+1 */, const void *p, size_t n);
/* 0, or -EINVAL unless text is exactly 2n lower- or upper-case hex digits. */
int hex_decode(const char *text, uint8_t *out, size_t n);

#endif
