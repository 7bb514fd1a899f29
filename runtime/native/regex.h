/* Regular expressions as automata: regex.c makes them, host_regex.c follows them. */
#ifndef PLANISH_REGEX_H
#define PLANISH_REGEX_H

#include <stdbool.h>
#include <stdint.h>

enum { CLASS, SPLIT, JUMP, ACCEPT, ASSERT }; /* kinds of states. SPLIT: to x and y */
enum { BEGIN, END, WORD, NOT_WORD }; /* kinds of ASSERT */

typedef struct range {
  int32_t first, last;
} range;

typedef struct state {
  int code, x, y; /* CLASS: ranges [x, y); ASSERT: x says what */
  bool negated;
} state;

typedef struct regex {
  state *states;
  range *ranges;
  int count, room, n_ranges, ranges_room;
  struct node *nodes; /* while it is read */
  int n_nodes, nodes_room;
  const char *at, *end;
  const char *problem;
  bool fold, dot_all;
  int depth, emitted;
} regex;

/* NULL, with what is wrong with the pattern in words. */
regex *planish_regex_compile(const char *pattern, uint64_t length, const char **problem);
void planish_regex_destroy(void *regex);

#endif
