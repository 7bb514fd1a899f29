/* CRC-32 as ZIP uses it (polynomial 0xEDB88320), eight bytes at a time. */
#include <pthread.h>
#include <string.h>

#include "npy.h"

static uint32_t table[8][256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fill_table(void) {
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; bit++) value = value >> 1 ^ (value & 1 ? 0xEDB88320u : 0);
    table[0][i] = value;
  }
  for (uint32_t i = 0; i < 256; i++)
    for (int step = 1; step < 8; step++) table[step][i] = table[step - 1][i] >> 8 ^ table[0][table[step - 1][i] & 255];
}

uint32_t planish_crc32(uint32_t crc, const void *data, size_t bytes) {
  const uint8_t *in = data;
  pthread_once(&once, fill_table);
  crc = ~crc;
  for (; bytes >= 8; bytes -= 8, in += 8) {
    uint32_t low, high;
    memcpy(&low, in, 4);
    memcpy(&high, in + 4, 4);
    low ^= crc;
    crc = table[7][low & 255] ^ table[6][low >> 8 & 255] ^ table[5][low >> 16 & 255] ^ table[4][low >> 24] ^
          table[3][high & 255] ^ table[2][high >> 8 & 255] ^ table[1][high >> 16 & 255] ^ table[0][high >> 24];
  }
  for (; bytes; bytes--, in++) crc = crc >> 8 ^ table[0][(crc ^ *in) & 255];
  return ~crc;
}
