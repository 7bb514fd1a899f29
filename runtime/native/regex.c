/* Regular expressions as RE2 has them, without backtracking: the pattern becomes a nondeterministic
 * automaton, of which all states are followed at once, so that a text of n characters takes n times the automaton's size.
 *
 * Taken: literals, ., [...] with ranges, negation, classes and [:names:], \d \w \s \D \W \S, \b \B, ^ $ \A \z, | ( ) (?: ) (?P<name> )
 * (?i) (?s) and their groups, * + ? {n} {n,} {n,m} and lazy ones, \n \t \r \f \v \a \xHH \x{H} \NNN \Q...\E. Not: \p{...}, and what
 * no automaton can do. Characters are Unicode code points; \d \w \s and case are ASCII's, as in RE2. */
#define _GNU_SOURCE
#include "regex.h"

#include <stdlib.h>
#include <string.h>

#include "utf8.h"

#define STATES_LIMIT 20000
#define REPEAT_LIMIT 1000 /* RE2's */
#define DEPTH_LIMIT 200

/* What was read: a tree, of which the automaton is made. Children of CAT and ALT are linked by `next`. */
enum { N_CLASS, N_ASSERT, N_CAT, N_ALT, N_REPEAT };
typedef struct node {
  int kind, x, y; /* CLASS: ranges [x, y); ASSERT: what; REPEAT: least, most */
  bool negated;
  int child, next; /* -1: none */
} node;

void planish_regex_destroy(void *value) {
  regex *r = value;
  free(r->states);
  free(r->ranges);
  free(r->nodes);
  free(r);
}

static void wrong(regex *r, const char *problem) {
  if (!r->problem) r->problem = problem;
}

static int add(regex *r, int code, int x, int y) {
  if (r->count >= STATES_LIMIT) wrong(r, "it is too large");
  if (r->problem) return 0;
  if (r->count == r->room) {
    int room = r->room * 2 + 32;
    state *grown = realloc(r->states, (size_t)room * sizeof *grown);
    if (!grown) return wrong(r, "out of memory"), 0;
    r->states = grown;
    r->room = room;
  }
  r->states[r->count] = (state){code, x, y, false};
  return r->count++;
}

static void add_range(regex *r, int32_t first, int32_t last) {
  if (r->n_ranges >= 10 * STATES_LIMIT) wrong(r, "it is too large");
  if (r->problem) return;
  if (r->n_ranges == r->ranges_room) {
    int room = r->ranges_room * 2 + 32;
    range *grown = realloc(r->ranges, (size_t)room * sizeof *grown);
    if (!grown) {
      wrong(r, "out of memory");
      return;
    }
    r->ranges = grown;
    r->ranges_room = room;
  }
  r->ranges[r->n_ranges++] = (range){first, last};
}

/* The range, and with (?i) the letters of the other case. */
static void add_folded(regex *r, int32_t first, int32_t last) {
  add_range(r, first, last);
  if (!r->fold) return;
  int32_t low = first > 'a' ? first : 'a', high = last < 'z' ? last : 'z';
  if (low <= high) add_range(r, low - 32, high - 32);
  low = first > 'A' ? first : 'A', high = last < 'Z' ? last : 'Z';
  if (low <= high) add_range(r, low + 32, high + 32);
}

static int add_node(regex *r, int kind, int x, int y) {
  if (r->n_nodes >= 4 * STATES_LIMIT) wrong(r, "it is too large");
  if (r->problem) return -1;
  if (r->n_nodes == r->nodes_room) {
    int room = r->nodes_room * 2 + 32;
    node *grown = realloc(r->nodes, (size_t)room * sizeof *grown);
    if (!grown) return wrong(r, "out of memory"), -1;
    r->nodes = grown;
    r->nodes_room = room;
  }
  r->nodes[r->n_nodes] = (node){kind, x, y, false, -1, -1};
  return r->n_nodes++;
}

/* A class of the ranges from `first` on. */
static int class_node(regex *r, int first, bool negated) {
  int made = add_node(r, N_CLASS, first, r->n_ranges);
  if (made >= 0) r->nodes[made].negated = negated;
  return made;
}

/* ---- reading: each function gives a node, or -1 when there is a problem ---- */
static int read_alternatives(regex *r);

static bool more(const regex *r) { return r->at < r->end && !r->problem; }
static bool accept(regex *r, char c) { return more(r) && *r->at == c ? r->at++, true : false; }

static int32_t read_char(regex *r) {
  uint32_t length;
  if (!more(r)) return wrong(r, "it ends too early"), 0;
  int32_t code = planish_utf8_read(r->at, (uint64_t)(r->end - r->at), &length);
  r->at += length;
  return code;
}

static const struct {
  const char *name;
  range ranges[4];
  int count;
} NAMED[] = {{"d", {{'0', '9'}}, 1},
             {"w", {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}, 4},
             {"s", {{'\t', '\n'}, {'\f', '\r'}, {' ', ' '}}, 3},
             {"alnum", {{'0', '9'}, {'A', 'Z'}, {'a', 'z'}}, 3},
             {"alpha", {{'A', 'Z'}, {'a', 'z'}}, 2},
             {"ascii", {{0, 127}}, 1},
             {"blank", {{'\t', '\t'}, {' ', ' '}}, 2},
             {"cntrl", {{0, 31}, {127, 127}}, 2},
             {"digit", {{'0', '9'}}, 1},
             {"graph", {{'!', '~'}}, 1},
             {"lower", {{'a', 'z'}}, 1},
             {"print", {{' ', '~'}}, 1},
             {"punct", {{'!', '/'}, {':', '@'}, {'[', '`'}, {'{', '~'}}, 4},
             {"space", {{'\t', '\r'}, {' ', ' '}}, 2},
             {"upper", {{'A', 'Z'}}, 1},
             {"word", {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}, 4},
             {"xdigit", {{'0', '9'}, {'A', 'F'}, {'a', 'f'}}, 3}};

/* The named class, or all but it. False: no such class. */
static bool add_named(regex *r, const char *name, size_t length, bool negated) {
  for (size_t i = 0; i < sizeof NAMED / sizeof *NAMED; i++) {
    if (strlen(NAMED[i].name) != length || strncmp(NAMED[i].name, name, length)) continue;
    int32_t next = 0;
    for (int k = 0; k < NAMED[i].count; k++) {
      range part = NAMED[i].ranges[k];
      if (!negated) add_folded(r, part.first, part.last);
      else if (part.first > next) add_range(r, next, part.first - 1);
      next = part.last + 1;
    }
    if (negated) add_range(r, next, INT32_MAX);
    return true;
  }
  return false;
}

static int digit_of(int32_t c) {
  if (c >= '0' && c <= '9') return c - '0';
  c |= 32;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int32_t read_hex(regex *r) {
  int32_t value = 0;
  bool braces = accept(r, '{');
  int digits = 0, most = braces ? 6 : 2;
  while (more(r) && digits < most && digit_of((unsigned char)*r->at) >= 0)
    value = value * 16 + digit_of((unsigned char)*r->at++), digits++;
  if (!digits || (!braces && digits != 2) || (braces && !accept(r, '}'))) wrong(r, "a \\x that is no number");
  return value;
}

/* The character that an escape stands for, behind its backslash; -1: it is no plain character, and nothing is read. */
static int32_t read_escape(regex *r) {
  static const char from[] = "ntrfva", to[] = "\n\t\r\f\v\a";
  char c = more(r) ? *r->at : 0;
  const char *known = c ? strchr(from, c) : NULL;
  if (known) return r->at++, to[known - from];
  if (c == 'x') return r->at++, read_hex(r);
  if (c >= '0' && c <= '7') {
    int32_t value = 0;
    for (int i = 0; i < 3 && more(r) && *r->at >= '0' && *r->at <= '7'; i++) value = value * 8 + (*r->at++ - '0');
    return value;
  }
  bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '8' && c <= '9');
  return letter ? -1 : read_char(r);
}

/* An escape such as \d, into the class that is being made; false: it is none. */
static bool read_class_escape(regex *r) {
  char c = more(r) ? *r->at : 0, lower = (char)(c | 32);
  if (lower != 'd' && lower != 'w' && lower != 's') return false;
  r->at++;
  return add_named(r, &lower, 1, c != lower);
}

/* A character of a [...]. */
static int32_t read_member(regex *r) {
  if (!accept(r, '\\')) return read_char(r);
  int32_t code = read_escape(r);
  if (code < 0) wrong(r, "an escape that is not supported");
  return code;
}

static int read_bracket(regex *r) {
  int start = r->n_ranges;
  bool negated = accept(r, '^');
  for (bool first = true; more(r) && (first || *r->at != ']'); first = false) {
    bool named = r->end - r->at > 2 && r->at[0] == '[' && r->at[1] == ':';
    const char *close = named ? memmem(r->at + 2, (size_t)(r->end - r->at - 2), ":]", 2) : NULL;
    if (close) {
      bool not_it = r->at[2] == '^';
      if (!add_named(r, r->at + 2 + not_it, (size_t)(close - r->at - 2 - not_it), not_it))
        wrong(r, "an unknown class [:name:]");
      r->at = close + 2;
      continue;
    }
    if (r->end - r->at >= 2 && r->at[0] == '\\' && strchr("dwsDWS", r->at[1])) {
      r->at++;
      read_class_escape(r);
      continue;
    }
    int32_t low = read_member(r), high = low;
    if (r->end - r->at >= 2 && r->at[0] == '-' && r->at[1] != ']') {
      r->at++;
      high = read_member(r);
    }
    if (high < low) wrong(r, "a range whose end is before its beginning");
    add_folded(r, low, high);
  }
  if (!accept(r, ']')) wrong(r, "a [ without ]");
  return class_node(r, start, negated);
}

static int char_node(regex *r, int32_t code) {
  int start = r->n_ranges;
  add_folded(r, code, code);
  return class_node(r, start, false);
}

/* Append `child` to the list of `parent`, whose last child is *last. */
static void append(regex *r, int parent, int *last, int child) {
  if (r->problem || parent < 0 || child < 0) return;
  if (*last < 0) r->nodes[parent].child = child;
  else r->nodes[*last].next = child;
  *last = child;
}

static int read_backslash(regex *r) {
  char c = more(r) ? *r->at : 0;
  if (c && strchr("AzbB", c)) {
    r->at++;
    return add_node(r, N_ASSERT, c == 'A' ? BEGIN : c == 'z' ? END : c == 'b' ? WORD : NOT_WORD, 0);
  }
  if (c == 'Q') {
    int all = add_node(r, N_CAT, 0, 0), last = -1;
    for (r->at++; more(r) && !(r->end - r->at >= 2 && r->at[0] == '\\' && r->at[1] == 'E');)
      append(r, all, &last, char_node(r, read_char(r)));
    if (more(r)) r->at += 2;
    return all;
  }
  int start = r->n_ranges;
  if (read_class_escape(r)) return class_node(r, start, false);
  int32_t code = read_escape(r);
  if (code < 0) wrong(r, "an escape that is not supported");
  return char_node(r, code);
}

/* Behind "(?": flags, a name, or nothing; false: it was (?flags) alone, which is no group. */
static bool read_group_head(regex *r) {
  bool on = true;
  if (accept(r, 'P') || (r->end - r->at >= 2 && r->at[0] == '<' && r->at[1] != '=' && r->at[1] != '!')) {
    if (!accept(r, '<')) wrong(r, "a group that is not supported");
    while (more(r) && *r->at != '>') r->at++;
    if (!accept(r, '>')) wrong(r, "a group's name without end");
    return true;
  }
  for (; more(r) && *r->at != ':' && *r->at != ')'; r->at++) {
    if (*r->at == '-') on = false;
    else if (*r->at == 'i') r->fold = on;
    else if (*r->at == 's') r->dot_all = on;
    else if (*r->at != 'U') wrong(r, "a group or flag that is not supported");
  }
  if (accept(r, ':')) return true;
  if (!accept(r, ')')) wrong(r, "a ( without )");
  return false;
}

static int read_group(regex *r) {
  bool fold = r->fold, dot_all = r->dot_all;
  if (accept(r, '?') && !read_group_head(r)) return add_node(r, N_CAT, 0, 0); /* its flags stay */
  if (++r->depth > DEPTH_LIMIT) wrong(r, "it is nested too deep");
  int inside = r->problem ? -1 : read_alternatives(r);
  r->depth--;
  if (!accept(r, ')')) wrong(r, "a ( without )");
  r->fold = fold;
  r->dot_all = dot_all;
  return inside;
}

/* One thing that may be repeated. */
static int read_atom(regex *r) {
  int start = r->n_ranges;
  char c = *r->at++;
  switch (c) {
    case '(': return read_group(r);
    case '[': return read_bracket(r);
    case '\\': return read_backslash(r);
    case '^': return add_node(r, N_ASSERT, BEGIN, 0);
    case '$': return add_node(r, N_ASSERT, END, 0);
    case '.':
      if (!r->dot_all) add_range(r, '\n', '\n');
      return class_node(r, start, true);
    case '*':
    case '+':
    case '?': wrong(r, "a repetition of nothing"); return -1;
    default: r->at--; return char_node(r, read_char(r));
  }
}

/* {n}, {n,}, {n,m}; false: it is none of these, and nothing is read. */
static bool read_counts(regex *r, int *least, int *most) {
  const char *start = r->at;
  int numbers[2] = {0, -1}, index = 0, digits = 0;
  for (r->at++; more(r) && *r->at != '}'; r->at++) {
    if (*r->at == ',' && !index && digits) {
      index = 1;
    } else if (*r->at >= '0' && *r->at <= '9') {
      if (numbers[index] < 0) numbers[index] = 0;
      numbers[index] = numbers[index] > REPEAT_LIMIT ? numbers[index] : numbers[index] * 10 + (*r->at - '0');
      digits++;
    } else {
      digits = 0;
      break;
    }
  }
  if (!digits || !accept(r, '}')) return r->at = start, false;
  *least = numbers[0];
  *most = index ? numbers[1] : numbers[0];
  if (*least > REPEAT_LIMIT || *most > REPEAT_LIMIT || (*most >= 0 && *most < *least))
    wrong(r, "a repetition that is too large or wrong");
  return true;
}

static int read_repeated(regex *r) {
  int atom = read_atom(r);
  for (int times = 0; more(r); times++) {
    int least = 0, most = -1;
    if (*r->at == '*') r->at++;
    else if (*r->at == '+') r->at++, least = 1;
    else if (*r->at == '?') r->at++, most = 1;
    else if (*r->at != '{' || !read_counts(r, &least, &most)) break;
    accept(r, '?'); /* lazy: the same for a whole match */
    if (times) wrong(r, "a repetition of a repetition");
    int made = add_node(r, N_REPEAT, least, most);
    if (made >= 0) r->nodes[made].child = atom;
    atom = made;
  }
  return atom;
}

static int read_alternatives(regex *r) {
  int all = add_node(r, N_ALT, 0, 0), last_one = -1;
  do {
    int part = add_node(r, N_CAT, 0, 0), last = -1;
    while (more(r) && *r->at != '|' && *r->at != ')') append(r, part, &last, read_repeated(r));
    append(r, all, &last_one, part);
  } while (accept(r, '|'));
  return all;
}

/* ---- the automaton: each node becomes states that continue behind themselves ---- */
static void emit(regex *r, int index);

static void emit_alternatives(regex *r, int child) {
  int jump = -1; /* the last jump to the end; each has the number of the one before in y */
  for (; child >= 0 && !r->problem; child = r->nodes[child].next) {
    bool last = r->nodes[child].next < 0;
    int split = last ? -1 : add(r, SPLIT, r->count + 1, 0);
    emit(r, child);
    if (last) break;
    jump = add(r, JUMP, 0, jump);
    if (!r->problem) r->states[split].y = r->count;
  }
  while (jump >= 0 && !r->problem) {
    int before = r->states[jump].y;
    r->states[jump].x = r->count;
    jump = before;
  }
}

static void emit_repeat(regex *r, const node *n) {
  int child = n->child, least = n->x, most = n->y;
  for (int i = 0; i < least && !r->problem; i++) emit(r, child);
  if (most < 0) {
    int split = add(r, SPLIT, r->count + 1, 0);
    emit(r, child);
    add(r, JUMP, split, 0);
    if (!r->problem) r->states[split].y = r->count;
  }
  for (int i = least; i < most && !r->problem; i++) {
    int split = add(r, SPLIT, r->count + 1, 0);
    emit(r, child);
    if (!r->problem) r->states[split].y = r->count;
  }
}

static void emit(regex *r, int index) {
  if (++r->emitted > 20 * STATES_LIMIT) wrong(r, "it is too large"); /* repetitions of nothing make no states */
  if (r->problem || index < 0) return;
  node n = r->nodes[index];
  int made;
  switch (n.kind) {
    case N_CLASS:
      made = add(r, CLASS, n.x, n.y);
      if (!r->problem) r->states[made].negated = n.negated;
      break;
    case N_ASSERT: add(r, ASSERT, n.x, 0); break;
    case N_CAT:
      for (int child = n.child; child >= 0 && !r->problem; child = r->nodes[child].next) emit(r, child);
      break;
    case N_ALT: emit_alternatives(r, n.child); break;
    default: emit_repeat(r, &n); break;
  }
}

regex *planish_regex_compile(const char *pattern, uint64_t length, const char **problem) {
  regex *r = calloc(1, sizeof *r);
  *problem = "out of memory";
  if (!r) return NULL;
  r->at = pattern;
  r->end = pattern + length;
  int whole = read_alternatives(r);
  if (more(r)) wrong(r, "a ) without (");
  emit(r, whole);
  add(r, ACCEPT, 0, 0);
  *problem = r->problem;
  if (!r->problem) return r;
  planish_regex_destroy(r);
  return NULL;
}
