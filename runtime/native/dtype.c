/* Element types: names, DLPack codes, NumPy's type strings, sizes, and the 16-bit floats in integer code (the compiler
 * of the target machine may lack both types). */
#include <string.h>

#include "internal.h"

enum { INT = 0, UINT = 1, FLOAT = 2, BFLOAT = 4, COMPLEX = 5, BOOL = 6 };

static const planish_dtype_info DTYPES[] = {
    {"bool", {BOOL, 8, 1}, "|b1"},     {"i8", {INT, 8, 1}, "|i1"},        {"u8", {UINT, 8, 1}, "|u1"},
    {"i16", {INT, 16, 1}, "<i2"},      {"u16", {UINT, 16, 1}, "<u2"},     {"i32", {INT, 32, 1}, "<i4"},
    {"u32", {UINT, 32, 1}, "<u4"},     {"i64", {INT, 64, 1}, "<i8"},      {"u64", {UINT, 64, 1}, "<u8"},
    {"f16", {FLOAT, 16, 1}, "<f2"},    {"f32", {FLOAT, 32, 1}, "<f4"},    {"f64", {FLOAT, 64, 1}, "<f8"},
    {"c64", {COMPLEX, 64, 1}, "<c8"},  {"c128", {COMPLEX, 128, 1}, "<c16"}, {"bf16", {BFLOAT, 16, 1}, NULL},
    {"i2", {INT, 2, 1}, NULL},         {"u2", {UINT, 2, 1}, NULL},
    {"i4", {INT, 4, 1}, NULL},         {"u4", {UINT, 4, 1}, NULL},        {"f8e4m3fn", {10, 8, 1}, NULL},
    {"f8e4m3fnuz", {11, 8, 1}, NULL},  {"f8e5m2", {12, 8, 1}, NULL},      {"f8e5m2fnuz", {13, 8, 1}, NULL},
    {"f8e8m0", {14, 8, 1}, NULL},      {"f4e2m1", {17, 4, 1}, NULL},
};

const planish_dtype_info *planish_dtype_find(const char *name) {
  for (size_t i = 0; i < sizeof DTYPES / sizeof *DTYPES; i++)
    if (!strcmp(DTYPES[i].name, name)) return &DTYPES[i];
  return NULL;
}

const planish_dtype_info *planish_dtype_of(planish_dtype dtype) {
  for (size_t i = 0; i < sizeof DTYPES / sizeof *DTYPES; i++)
    if (DTYPES[i].dtype.code == dtype.code && DTYPES[i].dtype.bits == dtype.bits && dtype.lanes == 1) return &DTYPES[i];
  return NULL;
}

int64_t planish_element_count(int32_t rank, const int64_t *shape) {
  int64_t count = 1;
  bool empty = false;
  for (int32_t i = 0; i < rank; i++) {
    if (shape[i] < 0) return -1;
    if (shape[i] == 0) {
      empty = true;
    } else if (__builtin_mul_overflow(count, shape[i], &count)) {
      return -1;
    }
  }
  return empty ? 0 : count;
}

int64_t planish_tensor_bytes(planish_dtype dtype, int32_t rank, const int64_t *shape) {
  int64_t bits, count = planish_element_count(rank, shape);
  if (count < 0 || __builtin_mul_overflow(count, (int64_t)dtype.bits, &bits) || bits > INT64_MAX - 7) return -1;
  return (bits + 7) / 8;
}

static double from_bits(uint64_t bits) {
  double value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static float float_from(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

double planish_bf16_value(uint16_t bits) { return (double)float_from((uint32_t)bits << 16); }

double planish_f16_value(uint16_t bits) {
  uint64_t sign = (uint64_t)(bits >> 15) << 63, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent == 31) return from_bits(sign | 0x7FF0000000000000u | fraction << 42);
  if (exponent) return from_bits(sign | (exponent - 15 + 1023) << 52 | fraction << 42);
  double tiny = (double)fraction * 0x1p-24;
  return sign ? -tiny : tiny;
}

/* Round a double to a binary format of `fraction` fraction bits and smallest normal exponent `lowest`, to nearest,
 * ties to even, straight from the double (rounding twice, through float, would be wrong for ties). */
static uint16_t round_to(double value, int fraction, int lowest, int bias, uint16_t infinity) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  uint16_t sign = (uint16_t)(bits >> 63 << 15);
  int exponent = (int)(bits >> 52 & 0x7FF) - 1023;
  uint64_t mantissa = bits & 0xFFFFFFFFFFFFFu;
  if (exponent == 1024) return (uint16_t)(sign | infinity | (mantissa ? 1u << (fraction - 1) : 0));
  if (exponent == -1023) return sign; /* zero, or far below the smallest number */
  mantissa |= 1ull << 52;
  int shift = 52 - fraction + (exponent < lowest ? lowest - exponent : 0);
  if (shift > 53) return sign;
  uint64_t half = 1ull << (shift - 1), rest = mantissa & (half * 2 - 1), kept = mantissa >> shift;
  kept += rest > half || (rest == half && (kept & 1));
  uint64_t result = exponent < lowest ? kept : kept + ((uint64_t)(exponent + bias - 1) << fraction);
  return (uint16_t)(sign | (result >= infinity ? infinity : (uint16_t)result));
}

uint16_t planish_f16_bits(double value) { return round_to(value, 10, -14, 15, 0x7C00); }
uint16_t planish_bf16_bits(double value) { return round_to(value, 7, -126, 127, 0x7F80); }
