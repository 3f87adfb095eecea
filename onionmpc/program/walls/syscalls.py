"""The system calls of Linux: the name, the numbers and the rule of each.

Knows all calls up to Linux 6.19. Does not know how a rule is enforced (seccomp.py). Each call has one rule. A call that
is not here gets the answer of an older kernel. Sources: the tables arch/x86/entry/syscalls/syscall_64.tbl and
scripts/syscall.tbl of Linux 6.19, and Debian's linux-libc-dev 6.1 (asm/unistd_64.h, asm-generic/unistd.h). A test
compares this table with the headers of the machine that it runs on.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import NamedTuple


class CallRule(enum.Enum):
    """What a call does, and whether a program may therefore make it."""

    OWN = "acts on the process itself, or on what it has open: allowed"
    PATHS = "names a path, which Landlock and mounts judge, or reveals that it exists: allowed"
    SOCKETS = "makes, names or connects a socket, and programs only use inherited ones: refused"
    OTHERS = "looks into another process, or acts on it: refused"
    FAMILY = "signals or names a process: allowed for itself, and for any if it may start processes"
    NUMBERED = "acts on the process with a given number: allowed for itself"
    RANKED = "acts on processes by kind and number: allowed for itself"
    STARTS = "starts a process or a program: allowed if the user allows processes"
    ATTRIBUTES = "changes a file by path, or one that was opened for reading: allowed if mounts make the rest read-only"
    OWNERS = "gives a file to another owner, which no program needs: refused"
    LABELS = "reads or changes extended attributes past Landlock: answered as if the file system had none"
    WATCHES = "watches or opens files past Landlock: refused"
    NAMES = "shares memory or messages under names that are not files: allowed if the names are its own"
    MACHINE = "administers the machine, or identifies it: refused"
    SURFACE = "exposes a large part of the kernel to attack, and no program needs it: refused"
    UNSEEN = "has its flags in memory, where a filter cannot look, and an older call does the same: not there"
    GONE = "does nothing in any current kernel: not there"
    ARGUMENTS = "is judged by its arguments, each call in its own way"


class Numbers(NamedTuple):
    """The numbers of one call; None if an architecture lacks it. All newer architectures use the number of ARM64."""

    x86_64: int | None
    arm64: int | None


# name, number of x86-64, number of ARM64
_TABLE = {
    CallRule.OWN: """
        read 0 63, write 1 64, close 3 57, fstat 5 80, poll 7 -, lseek 8 62, mmap 9 222, mprotect 10 226,
        munmap 11 215, brk 12 214, rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigreturn 15 139,
        pread64 17 67, pwrite64 18 68, readv 19 65, writev 20 66, pipe 22 -, select 23 -, sched_yield 24 124,
        mremap 25 216, msync 26 227, mincore 27 232, madvise 28 233, dup 32 23, dup2 33 -, pause 34 -,
        nanosleep 35 101, getitimer 36 102, alarm 37 -, setitimer 38 103, getpid 39 172, sendfile 40 71,
        sendto 44 206, recvfrom 45 207, sendmsg 46 211, recvmsg 47 212, shutdown 48 210, getsockname 51 204,
        getpeername 52 205, setsockopt 54 208, getsockopt 55 209, exit 60 93, wait4 61 260, uname 63 160,
        shmdt 67 197, flock 73 32, fsync 74 82, fdatasync 75 83, ftruncate 77 46, getdents 78 -, getcwd 79 17,
        fchdir 81 50, umask 95 166, gettimeofday 96 169, getrlimit 97 163, getrusage 98 165, sysinfo 99 179,
        times 100 153, getuid 102 174, getgid 104 176, setuid 105 146, setgid 106 144, geteuid 107 175,
        getegid 108 177, setpgid 109 154, getppid 110 173, getpgrp 111 -, setsid 112 157, setreuid 113 145,
        setregid 114 143, getgroups 115 158, setgroups 116 159, setresuid 117 147, getresuid 118 148,
        setresgid 119 149, getresgid 120 150, getpgid 121 155, setfsuid 122 151, setfsgid 123 152,
        getsid 124 156, capget 125 90, capset 126 91, rt_sigpending 127 136, rt_sigtimedwait 128 137,
        rt_sigsuspend 130 133, sigaltstack 131 132, personality 135 92, fstatfs 138 44, getpriority 140 141,
        sched_getparam 143 121, sched_getscheduler 145 120, sched_get_priority_max 146 125,
        sched_get_priority_min 147 126, sched_rr_get_interval 148 127, mlock 149 228, munlock 150 229,
        mlockall 151 230, munlockall 152 231, arch_prctl 158 -, setrlimit 160 164, sync 162 81, gettid 186 178,
        readahead 187 213, time 201 -, futex 202 98, sched_getaffinity 204 123, io_setup 206 0,
        io_destroy 207 1, io_getevents 208 4, io_submit 209 2, io_cancel 210 3, epoll_create 213 -,
        remap_file_pages 216 234, getdents64 217 61, set_tid_address 218 96, restart_syscall 219 128,
        fadvise64 221 223, timer_create 222 107, timer_settime 223 110, timer_gettime 224 108,
        timer_getoverrun 225 109, timer_delete 226 111, clock_gettime 228 113, clock_getres 229 114,
        clock_nanosleep 230 115, exit_group 231 94, epoll_wait 232 -, epoll_ctl 233 21, mbind 237 235,
        set_mempolicy 238 237, get_mempolicy 239 236, mq_timedsend 242 182, mq_timedreceive 243 183,
        mq_notify 244 184, mq_getsetattr 245 185, waitid 247 95, ioprio_get 252 31, pselect6 270 72,
        ppoll 271 73, set_robust_list 273 99, splice 275 76, tee 276 77, sync_file_range 277 84,
        vmsplice 278 75, epoll_pwait 281 22, signalfd 282 -, timerfd_create 283 85, eventfd 284 -,
        fallocate 285 47, timerfd_settime 286 86, timerfd_gettime 287 87, signalfd4 289 74, eventfd2 290 19,
        epoll_create1 291 20, dup3 292 24, pipe2 293 59, preadv 295 69, pwritev 296 70, recvmmsg 299 243,
        syncfs 306 267, sendmmsg 307 269, getcpu 309 168, sched_getattr 315 275, seccomp 317 277,
        getrandom 318 278, memfd_create 319 279, membarrier 324 283, mlock2 325 284, copy_file_range 326 285,
        preadv2 327 286, pwritev2 328 287, pkey_mprotect 329 288, pkey_alloc 330 289, pkey_free 331 290,
        io_pgetevents 333 292, rseq 334 293, uretprobe 335 -, uprobe 336 -, close_range 436 436,
        epoll_pwait2 441 441, landlock_create_ruleset 444 444, landlock_add_rule 445 445,
        landlock_restrict_self 446 446, memfd_secret 447 447, futex_waitv 449 449,
        set_mempolicy_home_node 450 450, cachestat 451 451, map_shadow_stack 453 453, futex_wake 454 454,
        futex_wait 455 455, futex_requeue 456 456, lsm_get_self_attr 459 459, lsm_list_modules 461 461,
        mseal 462 462
    """,
    CallRule.PATHS: """
        stat 4 -, lstat 6 -, newfstatat 262 79, statx 332 291, access 21 -, faccessat 269 48,
        faccessat2 439 439, readlink 89 -, readlinkat 267 78, statfs 137 43, file_getattr 468 468, chdir 80 49,
        creat 85 -, mkdir 83 -, mkdirat 258 34, rmdir 84 -, unlink 87 -, unlinkat 263 35, rename 82 -,
        renameat 264 38, renameat2 316 276, link 86 -, linkat 265 37, symlink 88 -, symlinkat 266 36,
        mknod 133 -, mknodat 259 33
    """,
    CallRule.SOCKETS: """
        socket 41 198, bind 49 200, listen 50 201, accept 43 202, accept4 288 242, connect 42 203
    """,
    CallRule.OTHERS: """
        ptrace 101 117, process_vm_readv 310 270, process_vm_writev 311 271, process_madvise 440 440,
        process_mrelease 448 448, kcmp 312 272, get_robust_list 274 100, pidfd_getfd 438 438,
        pidfd_send_signal 424 424
    """,
    CallRule.FAMILY: """
        kill 62 129, tgkill 234 131, tkill 200 130, rt_sigqueueinfo 129 138, rt_tgsigqueueinfo 297 240,
        pidfd_open 434 434
    """,
    CallRule.NUMBERED: """
        prlimit64 302 261, sched_setaffinity 203 122, sched_setparam 142 118, sched_setscheduler 144 119,
        sched_setattr 314 274, migrate_pages 256 238, move_pages 279 239
    """,
    CallRule.RANKED: """
        setpriority 141 140, ioprio_set 251 30
    """,
    CallRule.STARTS: """
        fork 57 -, vfork 58 -, execve 59 221, execveat 322 281
    """,
    CallRule.ATTRIBUTES: """
        chmod 90 -, fchmod 91 52, fchmodat 268 53, fchmodat2 452 452, utime 132 -, utimes 235 -,
        futimesat 261 -, utimensat 280 88, truncate 76 45, file_setattr 469 469
    """,
    CallRule.OWNERS: """
        chown 92 -, fchown 93 55, lchown 94 -, fchownat 260 54
    """,
    CallRule.LABELS: """
        setxattr 188 5, lsetxattr 189 6, fsetxattr 190 7, setxattrat 463 463, getxattr 191 8, lgetxattr 192 9,
        fgetxattr 193 10, getxattrat 464 464, listxattr 194 11, llistxattr 195 12, flistxattr 196 13,
        listxattrat 465 465, removexattr 197 14, lremovexattr 198 15, fremovexattr 199 16, removexattrat 466 466
    """,
    CallRule.WATCHES: """
        inotify_init 253 -, inotify_init1 294 26, inotify_add_watch 254 27, inotify_rm_watch 255 28,
        fanotify_init 300 262, fanotify_mark 301 263, name_to_handle_at 303 264, open_by_handle_at 304 265
    """,
    CallRule.NAMES: """
        shmget 29 194, shmat 30 196, shmctl 31 195, semget 64 190, semop 65 193, semtimedop 220 192,
        semctl 66 191, msgget 68 186, msgsnd 69 189, msgrcv 70 188, msgctl 71 187, mq_open 240 180,
        mq_unlink 241 181
    """,
    CallRule.MACHINE: """
        mount 165 40, umount2 166 39, pivot_root 155 41, chroot 161 51, open_tree 428 428,
        open_tree_attr 467 467, move_mount 429 429, fsopen 430 430, fsconfig 431 431, fsmount 432 432,
        fspick 433 433, mount_setattr 442 442, statmount 457 457, listmount 458 458, listns 470 470,
        swapon 167 224, swapoff 168 225, reboot 169 142, kexec_load 246 104, kexec_file_load 320 294,
        init_module 175 105, finit_module 313 273, delete_module 176 106, quotactl 179 60, quotactl_fd 443 443,
        acct 163 89, syslog 103 116, sethostname 170 161, setdomainname 171 162, settimeofday 164 170,
        clock_settime 227 112, adjtimex 159 171, clock_adjtime 305 266, iopl 172 -, ioperm 173 -,
        vhangup 153 58, lsm_set_self_attr 460 460, lookup_dcookie 212 18, sysfs 139 -, ustat 136 -
    """,
    CallRule.SURFACE: """
        unshare 272 97, setns 308 268, bpf 321 280, perf_event_open 298 241, userfaultfd 323 282,
        io_uring_setup 425 425, io_uring_enter 426 426, io_uring_register 427 427, add_key 248 217,
        request_key 249 218, keyctl 250 219, modify_ldt 154 -
    """,
    CallRule.UNSEEN: """
        clone3 435 435, openat2 437 437
    """,
    CallRule.GONE: """
        _sysctl 156 -, afs_syscall 183 -, create_module 174 -, epoll_ctl_old 214 -, epoll_wait_old 215 -,
        get_kernel_syms 177 -, get_thread_area 211 -, getpmsg 181 -, nfsservctl 180 42, putpmsg 182 -,
        query_module 178 -, security 185 -, set_thread_area 205 -, tuxcall 184 -, uselib 134 -, vserver 236 -
    """,
    CallRule.ARGUMENTS: """
        clone 56 220, socketpair 53 199, ioctl 16 29, fcntl 72 25, prctl 157 167, open 2 -, openat 257 56
    """,
}
# Calls that only RISC-V has: one reports the processor's features, the other makes new instructions visible to it.
RISCV64_OWN = {"riscv_hwprobe": 258, "riscv_flush_icache": 259}


def _rows() -> Iterator[tuple[str, Numbers, CallRule]]:
    for rule, rows in _TABLE.items():
        for row in rows.split(","):
            name, *numbers = row.split()
            x86_64, arm64 = (None if number == "-" else int(number) for number in numbers)
            yield name, Numbers(x86_64, arm64), rule


NUMBERS = {name: numbers for name, numbers, _ in _rows()}
RULES = {name: rule for name, _, rule in _rows()}
