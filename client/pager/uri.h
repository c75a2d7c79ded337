/* SPDX-License-Identifier: BSD-2-Clause */
/* Where an export is: the four forms of an NBD URI that a link takes. */

#ifndef FARPAGE_URI_H
#define FARPAGE_URI_H

#include <stdbool.h>

#define URI_NAME_MAX 4096u /* bytes of an export's name, as NBD has it */

struct uri {
  bool tls;
  char *host, *port; /* TCP; NULL: Unix */
  char *socket;      /* Unix; NULL: TCP */
  char *user;        /* of TLS with keys; or NULL */
  char *name;        /* of the export, decoded; "" is one */
};

/* EINVAL, with why: what is wrong.  ENOMEM. */
extern int uri_parse (const char *text, struct uri *u, const char **why);
extern void uri_free (struct uri *u);

#endif /* FARPAGE_URI_H */
