/* SPDX-License-Identifier: BSD-2-Clause */
/* The listening socket's life: places, names, who may replace whom. */

#ifndef FARPAGE_CONTROL_SOCKET_H
#define FARPAGE_CONTROL_SOCKET_H

#include <stdbool.h>
#include <sys/types.h>
#include <sys/un.h>

#define SOCKET_PATH_BYTES (sizeof ((struct sockaddr_un *) 0)->sun_path)

struct control_socket {
  int fd;                       /* -1: none */
  bool is_default;              /* nobody asked for it: failing is a warning */
  char dir[SOCKET_PATH_BYTES];  /* of the default place; the pid follows */
  char path[SOCKET_PATH_BYTES]; /* its name, empty: not known yet */
  char temp[SOCKET_PATH_BYTES]; /* its name until then, empty: has none */
  dev_t dev;
  ino_t ino;
};

/* Bind under a temporary name; path as in control_bind (). */
extern int control_socket_bind (struct control_socket *s, const char *path);

/* Listen and rename to the final name, now that the pid is known. */
extern int control_socket_publish (struct control_socket *s);

/* Remove the name, if it is still this socket's. */
extern void control_socket_unlink (struct control_socket *s);

#endif /* FARPAGE_CONTROL_SOCKET_H */
