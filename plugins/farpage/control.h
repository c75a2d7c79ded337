/* SPDX-License-Identifier: BSD-2-Clause */
/* The control socket: JSON lines on a Unix socket, see docs/control.md.
 *
 * One thread with a libev loop answers the clients, tells the store once a
 * second that time has passed, and passes the pool's space events on.
 *
 *   control_bind  before the fork (.get_ready): makes what can fail
 *   control_start after the fork (.after_fork): name, loop, thread
 *   control_stop  at the end (.cleanup), or from on_stop
 */

#ifndef FARPAGE_CONTROL_H
#define FARPAGE_CONTROL_H

struct armour;
struct control;
struct store;

/* Bind the socket at path under a temporary name beside it.  path NULL: the
 * first default place that works, and if none does, a warning and no socket.
 * path "": no socket.  The thread is there in either case.
 * Errors: EADDRINUSE: a live server has path.  EEXIST: path is no socket.
 * ENAMETOOLONG, ENOMEM, what bind (2) says.  The log says more.
 */
extern int control_bind (const char *path, struct control **cp);

/* Give the socket its name and start the thread.  armour is told by `stat`, and
 * stays the caller's.  on_stop is called in that
 * thread, once, when the answer to `stop` has been written out (or its client
 * has gone); it may end the process, or call control_stop.
 * Errors as control_bind, for an explicit path only, and EAGAIN, ENOMEM.
 */
extern int control_start (struct control *c, struct store *s,
                          const struct armour *armour,
                          void (*on_stop) (void *arg), void *arg);

/* Where the socket is, or NULL if there is none.  After control_start. */
extern const char *control_path (const struct control *c);

/* End the thread, close clients, remove the socket, free c.  NULL is fine, and
 * so is a c that was not started.  Before store_close.  Blocks: for a request
 * under way.  From inside on_stop it only removes the socket's name: clients
 * see the end when the process ends.
 */
extern void control_stop (struct control *c);

#endif /* FARPAGE_CONTROL_H */
