from tests.codecheck.c_functions import Function, functions

SOURCE = """\
#define TWICE(x) do { \\
        f(x); } while (0)
struct pair { int a, b; };
static const int table[] = { 1, 2 };
/* int no(void) { */
static inline int one(int x) { return x; }

__attribute__((noinline))
int two(const char *s,
        int n)
{
    if (n) {
        puts("}{");
    }
    return s[0] == '}';
}
int declared(void);
"""


def test_functions_are_found_with_their_lines() -> None:
    assert functions(SOURCE) == [Function("one", 6, 1), Function("two", 8, 9)]
