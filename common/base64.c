/* base64.c - bytes as text and back, one spelling for each value
 *
 * Decoding is strict, so two different texts never stand for the same bytes.
 * Not constant-time: do not use it to compare secrets.
 */
#include "common/base64.h"

#include <errno.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void encode_group(char out[4], const uint8_t *p, size_t n)
{
	uint32_t v = (uint32_t)p[0] << 16;

	if (n > 1)
		v |= (uint32_t)p[1] << 8;
	if (n > 2)
		v |= p[2];
	out[0] = digits[v >> 18];
	out[1] = digits[v >> 12 & 63];
	out[2] = n > 1 ? digits[v >> 6 & 63] : '=';
	out[3] = n > 2 ? digits[v & 63] : '=';
}

void base64_encode(struct buf *b, const void *p, size_t n)
{
	const uint8_t *bytes = p;
	size_t len = n > SIZE_MAX / 2 ? SIZE_MAX : (n + 2) / 3 * 4;
	char *to = buf_reserve(b, len);

	if (!to)
		return;
	for (size_t i = 0; i < n; i += 3, to += 4)
		encode_group(to, bytes + i, n - i);
	b->len += len;
}

static int digit_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+')
		return 62;
	return c == '/' ? 63 : -1;
}

/* Decodes 4 characters of which the last 'pad' are '='; false on any flaw. */
static int decode_group(const char *text, size_t pad, uint8_t *out)
{
	uint32_t v = 0;

	for (size_t i = 0; i < 4 - pad; i++) {
		int d = digit_value(text[i]);

		if (d < 0)
			return -EINVAL;
		v |= (uint32_t)d << (18 - 6 * i);
	}
	if (v & ((UINT32_C(1) << 8 * pad) - 1)) /* bits that no byte takes */
		return -EINVAL;
	for (size_t i = 0; i < 3 - pad; i++)
		out[i] = (uint8_t)(v >> (16 - 8 * i));
	return 0;
}

long base64_decode(const char *text, size_t len, uint8_t *out)
{
	long n = 0;

	if (len % 4 != 0)
		return -EINVAL;
	for (size_t i = 0; i < len; i += 4) {
		size_t pad = 0;

		if (i + 4 == len && text[i + 3] == '=')
			pad = text[i + 2] == '=' ? 2 : 1;
		if (decode_group(text + i, pad, out + n))
			return -EINVAL;
		n += 3 - (long)pad;
	}
	return n;
}

void hex_encode(char *out, const void *p, size_t n)
{
	static const char hex[] = "0123456789abcdef";
	const uint8_t *bytes = p;

	for (size_t i = 0; i < n; i++) {
		out[2 * i] = hex[bytes[i] >> 4];
		out[2 * i + 1] = hex[bytes[i] & 15];
	}
	out[2 * n] = '\0';
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int hex_decode(const char *text, uint8_t *out, size_t n)
{
	for (size_t i = 0; i < 2 * n; i++) { /* stops at an early NUL */
		if (hex_value(text[i]) < 0)
			return -EINVAL;
	}
	if (text[2 * n] != '\0')
		return -EINVAL;
	for (size_t i = 0; i < n; i++)
		out[i] = (uint8_t)(hex_value(text[2 * i]) * 16 + hex_value(text[2 * i + 1]));
	return 0;
}
