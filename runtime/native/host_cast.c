/* Host functions between numbers and their texts: Cast to and from strings. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"

typedef struct float_kind {
  int bits; /* 16, 32, 64 */
  bool brain;
} float_kind;

/* Whether a text reads back as `value` in its type. */
static bool reads_back(const char *text, double value, float_kind kind) {
  if (kind.bits == 32) return strtof(text, NULL) == (float)value;
  double read = strtod(text, NULL);
  if (kind.bits == 64) return read == value;
  return (kind.brain ? planish_bf16_bits(read) : planish_f16_bits(read)) ==
         (kind.brain ? planish_bf16_bits(value) : planish_f16_bits(value));
}

/* As Python and NumPy write floats: the fewest digits that read back; positional from 1e-4 up to 1e16. */
static void format_float(double value, float_kind kind, char *text, size_t size) {
  char digits[40], mantissa[24];
  if (isnan(value)) {
    snprintf(text, size, "nan");
    return;
  }
  if (isinf(value)) {
    snprintf(text, size, value < 0 ? "-inf" : "inf");
    return;
  }
  int precision = 0;
  do snprintf(digits, sizeof digits, "%.*e", precision, value); /* d.ddde+xx */
  while (!reads_back(digits, value, kind) && ++precision < 17);
  int exponent = atoi(strchr(digits, 'e') + 1), count = 0;
  for (const char *c = digits; *c != 'e'; c++)
    if (*c >= '0' && *c <= '9') mantissa[count++] = *c;
  while (count > 1 && mantissa[count - 1] == '0') count--;
  mantissa[count] = 0;
  const char *sign = signbit(value) ? "-" : "";
  if (value != 0 && (exponent < -4 || exponent >= 16)) {
    snprintf(text, size, "%s%c%s%se%c%02d", sign, mantissa[0], count > 1 ? "." : "", mantissa + 1,
             exponent < 0 ? '-' : '+', abs(exponent));
  } else if (exponent < 0) {
    snprintf(text, size, "%s0.%.*s%s", sign, -exponent - 1, "0000", mantissa);
  } else if (count <= exponent + 1) {
    snprintf(text, size, "%s%s%.*s.0", sign, mantissa, exponent + 1 - count, "0000000000000000");
  } else {
    snprintf(text, size, "%s%.*s.%s", sign, exponent + 1, mantissa, mantissa + exponent + 1);
  }
}

static bool format_number(const planish_object *x, int64_t index, char *text, size_t size) {
  int code = x->dtype.code;
  if (code == 6) snprintf(text, size, "%s", planish_int_at(x, index) ? "True" : "False");
  else if (code == 0) snprintf(text, size, "%" PRId64, planish_int_at(x, index));
  else if (code == 1) snprintf(text, size, "%" PRIu64, (uint64_t)planish_int_at(x, index));
  else if (code == 2 || code == 4)
    format_float(planish_number_at(x, index), (float_kind){x->dtype.bits, code == 4}, text, size);
  else return false;
  return true;
}

PLANISH_HOST_FUNCTION(to_string) {
  const planish_object *x = planish_tensor_operand(host, in, 0, NULL);
  (void)step;
  if (!x) return PLANISH_FAILED;
  out[0] = planish_host_strings(host, x->rank, x->shape);
  if (!out[0]) return PLANISH_OUT_OF_MEMORY;
  locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0), before = plain ? uselocale(plain) : (locale_t)0;
  planish_status status = PLANISH_OK;
  for (int64_t i = 0; i < x->count && !status; i++) {
    char text[64];
    if (!format_number(x, i, text, sizeof text))
      status = planish_host_fail(host, PLANISH_FAILED, "this element type has no text");
    if (!status) status = planish_put_text(host, out[0], text, strlen(text));
    if (!status) status = planish_host_tick(host);
  }
  if (plain) uselocale(before), freelocale(plain);
  return status;
}

/* ---- from text ---- */
/* Whether the text is a number as ONNX writes them: sign, digits with a point, exponent; or inf, infinity, nan. */
static bool is_number(const char *at) {
  if (*at == '+' || *at == '-') at++;
  if (!strcasecmp(at, "inf") || !strcasecmp(at, "infinity") || !strcasecmp(at, "nan")) return true;
  int digits = 0;
  for (; *at >= '0' && *at <= '9'; at++) digits = 1;
  if (*at == '.') at++;
  for (; *at >= '0' && *at <= '9'; at++) digits = 1;
  if (digits && (*at == 'e' || *at == 'E')) {
    at++;
    if (*at == '+' || *at == '-') at++;
    if (*at < '0' || *at > '9') return false;
    while (*at >= '0' && *at <= '9') at++;
  }
  return digits && !*at;
}

/* A whole number within the range of the type; false if the text is none. */
static bool parse_integer(const char *text, planish_object *out, int64_t index) {
  int bits = out->dtype.bits;
  bool negative = *text == '-', is_signed = out->dtype.code == 0;
  uint64_t value = 0, most = is_signed    ? (UINT64_C(1) << (bits - 1)) - !negative
                             : bits == 64 ? UINT64_MAX
                                          : (UINT64_C(1) << bits) - 1;
  const char *at = text + (*text == '-' || *text == '+');
  bool plain = *at != 0;
  for (; *at && plain; at++) {
    plain = *at >= '0' && *at <= '9';
    if (plain && (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
                  __builtin_add_overflow(value, (uint64_t)(*at - '0'), &value)))
      return false;
  }
  if (!plain) { /* "1e3", "2.0" */
    double real = strtod(text, NULL);
    if (!(fabs(real) < 0x1p63) || real != floor(real)) return false;
    value = (uint64_t)fabs(real);
  }
  if (value > most && !(negative && !value)) return false;
  if (negative && !is_signed && value) return false;
  if (negative) value = 0 - value;
  planish_store_bits(out, index, value);
  return true;
}

static bool parse_number(const char *text, planish_object *out, int64_t index) {
  int code = out->dtype.code;
  if (code == 6) {
    bool yes = !strcasecmp(text, "true") || !strcmp(text, "1"), no = !strcasecmp(text, "false") || !strcmp(text, "0");
    ((uint8_t *)out->data)[index] = yes;
    return yes || no;
  }
  if (!is_number(text)) return false;
  if (code == 0 || code == 1) return parse_integer(text, out, index);
  if (code != 2 && code != 4) return false;
  if (out->dtype.bits == 32) {
    float single = strtof(text, NULL);
    memcpy((float *)out->data + index, &single, sizeof single);
  } else {
    planish_store_number(out, index, strtod(text, NULL));
  }
  return true;
}

PLANISH_HOST_FUNCTION(from_string) {
  const planish_object *x = planish_strings_operand(host, in, 0);
  const char *dtype = planish_string_attribute(step, "dtype", "f32");
  if (!x) return PLANISH_FAILED;
  out[0] = planish_host_tensor(host, dtype, x->rank, x->shape);
  if (!out[0]) return PLANISH_OUT_OF_MEMORY;
  locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0), before = plain ? uselocale(plain) : (locale_t)0;
  planish_status status = PLANISH_OK;
  for (int64_t i = 0; i < x->count && !status; i++) {
    char text[400];
    uint64_t length;
    planish_quoted shown;
    const char *from = planish_text_at(x, i, &length);
    while (length && strchr(" \t\r\n", from[0]) && from[0]) from++, length--;
    while (length && strchr(" \t\r\n", from[length - 1]) && from[length - 1]) length--;
    bool good = length > 0 && length < sizeof text && !memchr(from, 0, (size_t)length);
    if (good) memcpy(text, from, (size_t)length);
    text[good ? length : 0] = 0;
    if (!good || !parse_number(text, out[0], i))
      status = planish_host_fail(host, PLANISH_FAILED, "text %" PRId64 ": expected a number for %s, got %s", i, dtype,
                                 planish_quote(&shown, text));
    if (!status) status = planish_host_tick(host);
  }
  if (plain) uselocale(before), freelocale(plain);
  return status;
}
