/* Messages, and the one way in which a name from a model gets into them. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"

const char *planish_quote(planish_quoted *buffer, const char *name) {
  char *out = buffer->text;
  size_t used = 0, limit = 100;
  out[used++] = '\'';
  for (const unsigned char *in = (const unsigned char *)name; *in; in++) {
    if (used >= limit && (*in & 0xC0) != 0x80) { /* never cut inside a UTF-8 sequence */
      memcpy(out + used, "...", 3);
      used += 3;
      break;
    }
    if (used >= sizeof buffer->text - 12) break;
    if (*in < 0x20 || *in == 0x7F || *in == '\\') {
      used += (size_t)snprintf(out + used, 5, "\\x%02x", *in);
    } else {
      out[used++] = (char)*in;
    }
  }
  out[used++] = '\'';
  out[used] = 0;
  return out;
}

planish_status planish_say(planish_message *message, planish_status status, const char *format, ...) {
  if (!message) return status;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message->text, sizeof message->text, format, arguments);
  va_end(arguments);
  return status;
}
