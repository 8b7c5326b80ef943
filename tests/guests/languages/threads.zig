// Threads of Zig's own standard library, which makes them without a C library: clone, futex, thread-local storage.
const std = @import("std");
const linux = std.os.linux;

const threads = 8;
const times = 1000;

threadlocal var local: usize = 7;
var total = std.atomic.Value(usize).init(0);
var lock = std.atomic.Value(u32).init(0);
var locked: usize = 0;
var wrong = std.atomic.Value(usize).init(0);

fn say(text: []const u8) void {
    _ = linux.write(1, text.ptr, text.len);
}

// A lock that sleeps: 0 free, 1 held, 2 held and waited for.
fn acquire() void {
    if (lock.cmpxchgStrong(0, 1, .acquire, .monotonic) == null) return;
    while (lock.swap(2, .acquire) != 0) {
        _ = linux.futex_4arg(&lock.raw, .{ .cmd = .WAIT, .private = true }, 2, null);
    }
}

fn release() void {
    if (lock.swap(0, .release) == 2) {
        _ = linux.futex_3arg(&lock.raw, .{ .cmd = .WAKE, .private = true }, 1);
    }
}

fn work(number: usize) void {
    if (local != 7) _ = wrong.fetchAdd(1, .monotonic);
    local = number;
    for (0..times) |_| {
        _ = total.fetchAdd(1, .monotonic);
        acquire();
        locked += 1;
        release();
    }
    if (local != number) _ = wrong.fetchAdd(1, .monotonic);
}

pub fn main() !void {
    for (0..5) |_| {
        var made: [threads]std.Thread = undefined;
        for (&made, 0..) |*thread, number| {
            thread.* = try std.Thread.spawn(.{ .stack_size = 1 << 20 }, work, .{number});
        }
        for (made) |thread| thread.join();
    }
    const expected = 5 * threads * times;
    if (total.load(.monotonic) != expected or locked != expected or wrong.load(.monotonic) != 0) {
        say("FAILED: zig\n");
        linux.exit_group(1);
    }
    say("zig: all checks passed\n");
}
