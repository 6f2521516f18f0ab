// A library for LD_PRELOAD that steps the wall clock of a program: what the file named by FLEET_CLOCK holds, an int64 of
// nanoseconds, is added. The file is mapped, so that a step reaches running programs at once and costs nothing.
// The monotonic clocks are left alone, as a step leaves them.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *offset;
static int (*real)(clockid_t, struct timespec *);

static void setup(void) {
	real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	const char *name = getenv("FLEET_CLOCK");
	int fd = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
	void *at = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED) {
		// Without it a test of steps would test nothing.
		fputs("stepped clock: cannot map the file named by FLEET_CLOCK\n", stderr);
		_exit(127);
	}
	close(fd);
	offset = at;
}

// Another library may ask for the time before this one's turn.
__attribute__((constructor)) static void ready(void) {
	if (!offset)
		setup();
}

int clock_gettime(clockid_t clock, struct timespec *t) {
	ready();
	int failed = real(clock, t);
	if (failed || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE))
		return failed;
	int64_t all = (int64_t)t->tv_sec * 1000000000 + t->tv_nsec + *offset;
	t->tv_sec = all / 1000000000;
	t->tv_nsec = all % 1000000000;
	return 0;
}

int gettimeofday(struct timeval *restrict v, void *restrict zone) {
	struct timespec t;
	(void)zone;
	clock_gettime(CLOCK_REALTIME, &t);
	v->tv_sec = t.tv_sec;
	v->tv_usec = t.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *where) {
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	if (where)
		*where = t.tv_sec;
	return t.tv_sec;
}
