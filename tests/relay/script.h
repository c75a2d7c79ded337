/* SPDX-License-Identifier: BSD-2-Clause */
/* The commands of the relay, a line each. */

#ifndef FARPAGE_RELAY_SCRIPT_H
#define FARPAGE_RELAY_SCRIPT_H

#include "link.h"

#define SCRIPT_LINE_MAX 4096

struct script {
  struct relay *relay;
  ev_io io; /* of standard input */
  ev_timer pause;
  size_t fill;
  char line[SCRIPT_LINE_MAX];
};

/* Reads and obeys standard input until its end, which ends the loop. */
void script_open (struct script *s, struct relay *relay);
void script_close (struct script *s);

/* One command.  Its answer goes to standard output.  false: it was wrong. */
bool script_obey (struct script *s, char *line);

/* The commands, for --help. */
extern const char script_help[];

#endif /* FARPAGE_RELAY_SCRIPT_H */
