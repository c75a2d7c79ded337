/* SPDX-License-Identifier: BSD-2-Clause */
/* The nbd driver by netlink: see kernel.h.  Called by attach.c, watch.c and
 * detach.c; calls libnl.
 *
 *   asks:   our message ─▶ driver ─▶ its answer, an acknowledgement
 *   hears:  the driver's group, where each socket that has died is told once
 *
 * The driver's family is in the first network namespace alone, so both sockets
 * are made there; what they carry works from everywhere.
 */

#include <config.h>

#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nbd-netlink.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/netlink.h>

struct kernel {
  struct nl_sock *asks, *hears;
  int family;
  int index;     /* in the last answer, or -1 */
  int dead_of;   /* whose are counted */
  unsigned dead; /* so many have died */
};

/* ---- a conversation ---- */

static int
error_of (int nl_error)
{
  switch (-nl_error) {
  case 0:
    return 0;
  case NLE_PERM:
  case NLE_NOACCESS:
    return EPERM;
  case NLE_BUSY:
    return EBUSY;
  case NLE_NOMEM:
    return ENOMEM;
  case NLE_OBJ_NOTFOUND:
    return ENOENT;
  case NLE_EXIST:
    return EEXIST;
  case NLE_INVAL:
    return EINVAL;
  case NLE_RANGE:
    return ERANGE;
  default:
    return EIO;
  }
}

/* An answer of the driver. */
static int
on_answer (struct nl_msg *msg, void *arg)
{
  struct kernel *k = arg;
  struct nlattr *attr[NBD_ATTR_MAX + 1];

  if (genlmsg_parse (nlmsg_hdr (msg), 0, attr, NBD_ATTR_MAX, NULL) == 0 &&
      attr[NBD_ATTR_INDEX] != NULL)
    k->index = (int) nla_get_u32 (attr[NBD_ATTR_INDEX]);
  return NL_OK;
}

static int
on_news (struct nl_msg *msg, void *arg)
{
  struct kernel *k = arg;
  const struct genlmsghdr *head = nlmsg_data (nlmsg_hdr (msg));

  k->index = -1;
  if (head->cmd == NBD_CMD_LINK_DEAD && on_answer (msg, k) == NL_OK &&
      k->index == k->dead_of)
    k->dead++;
  return NL_OK;
}

static struct nl_msg *
new_message (const struct kernel *k, uint8_t command)
{
  struct nl_msg *msg = nlmsg_alloc ();

  if (msg != NULL && genlmsg_put (msg, NL_AUTO_PORT, NL_AUTO_SEQ, k->family, 0,
                                  0, command, 1) == NULL) {
    nlmsg_free (msg);
    msg = NULL;
  }
  return msg;
}

static int
put_sockets (struct nl_msg *msg, const int *fds, unsigned nr)
{
  struct nlattr *list = nla_nest_start (msg, NBD_ATTR_SOCKETS), *item;
  int err = list == NULL ? -NLE_NOMEM : 0;

  for (unsigned i = 0; i < nr && err == 0; i++) {
    item = nla_nest_start (msg, NBD_SOCK_ITEM);
    err = item == NULL ? -NLE_NOMEM
                       : nla_put_u32 (msg, NBD_SOCK_FD, (uint32_t) fds[i]);
    if (err == 0)
      nla_nest_end (msg, item);
  }
  if (err == 0)
    nla_nest_end (msg, list);
  return err;
}

/* Sends it, and frees it; err: it could not be made. */
static int
ask (struct kernel *k, struct nl_msg *msg, int err)
{
  if (err != 0) {
    nlmsg_free (msg);
    return ENOMEM;
  }
  k->index = -1;
  return error_of (nl_send_sync (k->asks, msg));
}

/* ---- what is asked ---- */

int
kernel_connect (struct kernel *k, struct kernel_device *dev, const int *fds,
                unsigned nr)
{
  struct nl_msg *msg = new_message (k, NBD_CMD_CONNECT);
  int err;

  if (msg == NULL)
    return ENOMEM;
  err = dev->index < 0
            ? 0
            : nla_put_u32 (msg, NBD_ATTR_INDEX, (uint32_t) dev->index);
  if (err == 0)
    err = nla_put_u64 (msg, NBD_ATTR_SIZE_BYTES, dev->size_bytes);
  if (err == 0)
    err = nla_put_u64 (msg, NBD_ATTR_BLOCK_SIZE_BYTES, KERNEL_BLOCK_BYTES);
  if (err == 0)
    err = nla_put_u64 (msg, NBD_ATTR_SERVER_FLAGS, dev->flags);
  if (err == 0)
    err = nla_put_u64 (msg, NBD_ATTR_TIMEOUT, 0);
  if (err == 0)
    err = nla_put_u64 (msg, NBD_ATTR_DEAD_CONN_TIMEOUT, dev->dead_seconds);
  if (err == 0)
    err = nla_put_string (msg, NBD_ATTR_BACKEND_IDENTIFIER, dev->backend);
  if (err == 0)
    err = put_sockets (msg, fds, nr);
  err = ask (k, msg, err);
  if (!err && dev->index < 0)
    dev->index = k->index;
  k->dead_of = dev->index;
  return err;
}

/* To change the device; what of it is still to be added.  NULL: no memory. */
static struct nl_msg *
new_change (const struct kernel *k, const struct kernel_device *dev)
{
  struct nl_msg *msg = new_message (k, NBD_CMD_RECONFIGURE);

  if (msg != NULL &&
      (nla_put_u32 (msg, NBD_ATTR_INDEX, (uint32_t) dev->index) != 0 ||
       nla_put_string (msg, NBD_ATTR_BACKEND_IDENTIFIER, dev->backend) != 0)) {
    nlmsg_free (msg);
    msg = NULL;
  }
  return msg;
}

int
kernel_reconnect (struct kernel *k, const struct kernel_device *dev, int fd)
{
  struct nl_msg *msg = new_change (k, dev);

  return msg == NULL ? ENOMEM : ask (k, msg, put_sockets (msg, &fd, 1));
}

int
kernel_resize (struct kernel *k, const struct kernel_device *dev)
{
  struct nl_msg *msg = new_change (k, dev);

  return msg == NULL
             ? ENOMEM
             : ask (k, msg,
                    nla_put_u64 (msg, NBD_ATTR_SIZE_BYTES, dev->size_bytes));
}

int
kernel_disconnect (struct kernel *k, int index)
{
  struct nl_msg *msg = new_message (k, NBD_CMD_DISCONNECT);

  if (msg == NULL)
    return ENOMEM;
  return ask (k, msg, nla_put_u32 (msg, NBD_ATTR_INDEX, (uint32_t) index));
}

int
kernel_fd (const struct kernel *k)
{
  return nl_socket_get_fd (k->hears);
}

unsigned
kernel_take_dead (struct kernel *k, int index)
{
  unsigned dead;

  k->dead_of = index;
  while (nl_recvmsgs_default (k->hears) == 0)
    ;
  dead = k->dead;
  k->dead = 0;
  return dead;
}

/* ---- the two sockets ---- */

static int
open_sockets (struct kernel *k)
{
  int group, err;

  if ((err = genl_connect (k->asks)) < 0 || (err = genl_connect (k->hears)) < 0)
    return error_of (err);
  k->family = genl_ctrl_resolve (k->asks, NBD_GENL_FAMILY_NAME);
  if (k->family < 0)
    return error_of (k->family);
  group = genl_ctrl_resolve_grp (k->asks, NBD_GENL_FAMILY_NAME,
                                 NBD_GENL_MCAST_GROUP_NAME);
  if (group < 0)
    return error_of (group);
  return error_of (nl_socket_add_membership (k->hears, group));
}

/* In the first network namespace, and back in ours. */
static int
open_in_first (struct kernel *k)
{
  int own = open ("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
  int first = open ("/proc/1/ns/net", O_RDONLY | O_CLOEXEC);
  int err = ENOENT;

  if (own >= 0 && first >= 0 && setns (first, CLONE_NEWNET) == 0) {
    nl_close (k->asks);
    nl_close (k->hears);
    err = open_sockets (k);
    if (setns (own, CLONE_NEWNET) != 0)
      err = errno;
  }
  if (own >= 0)
    close (own);
  if (first >= 0)
    close (first);
  return err;
}

int
kernel_open (struct kernel **kp)
{
  struct kernel *k = calloc (1, sizeof *k);
  int err = ENOMEM;

  if (k == NULL)
    return ENOMEM;
  k->dead_of = -1;
  k->asks = nl_socket_alloc ();
  k->hears = nl_socket_alloc ();
  if (k->asks != NULL && k->hears != NULL) {
    nl_socket_disable_seq_check (k->hears);
    nl_socket_modify_cb (k->asks, NL_CB_VALID, NL_CB_CUSTOM, on_answer, k);
    nl_socket_modify_cb (k->hears, NL_CB_VALID, NL_CB_CUSTOM, on_news, k);
    err = open_sockets (k);
    if (err == ENOENT)
      err = open_in_first (k);
    if (!err)
      err = error_of (nl_socket_set_nonblocking (k->hears));
  }
  if (err) {
    kernel_close (k);
    return err;
  }
  *kp = k;
  return 0;
}

void
kernel_close (struct kernel *k)
{
  if (k == NULL)
    return;
  nl_socket_free (k->asks);
  nl_socket_free (k->hears);
  free (k);
}
