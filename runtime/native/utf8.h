/* UTF-8: reading and writing code points. What is not UTF-8 is read byte by byte, as code points above all real ones. */
#ifndef PLANISH_UTF8_H
#define PLANISH_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PLANISH_RAW_BYTE 0x110000 /* + the byte: part of no character */

/* The code point at `at`, of `left` > 0 bytes; *length is its number of bytes. */
static inline int32_t planish_utf8_read(const char *at, uint64_t left, uint32_t *length) {
  const unsigned char *in = (const unsigned char *)at;
  static const int32_t lowest[] = {0, 0, 0x80, 0x800, 0x10000};
  uint32_t size = in[0] < 0x80 ? 1 : in[0] < 0xC2 ? 0 : in[0] < 0xE0 ? 2 : in[0] < 0xF0 ? 3 : in[0] < 0xF5 ? 4 : 0;
  int32_t code = size <= 1 ? in[0] : in[0] & (0x7F >> size);
  for (uint32_t i = 1; i < size; i++) {
    if (i >= left || (in[i] & 0xC0) != 0x80) size = 0;
    else code = code << 6 | (in[i] & 0x3F);
  }
  *length = size ? size : 1;
  bool good = size && code >= lowest[size] && code < 0x110000 && (code < 0xD800 || code > 0xDFFF);
  if (!good) *length = 1;
  return good ? code : PLANISH_RAW_BYTE + in[0];
}

/* Write a code point to 4 bytes of room; gives its length. */
static inline uint32_t planish_utf8_write(int32_t code, char *out) {
  if (code >= PLANISH_RAW_BYTE) return out[0] = (char)(code - PLANISH_RAW_BYTE), 1;
  if (code < 0x80) return out[0] = (char)code, 1;
  uint32_t size = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  for (uint32_t i = size; i-- > 1; code >>= 6) out[i] = (char)(0x80 | (code & 0x3F));
  out[0] = (char)((0xF00 >> size & 0xFF) | code);
  return size;
}

/* White space as Python's str.split knows it. */
static inline bool planish_is_space(int32_t c) {
  return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
         c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

#endif
