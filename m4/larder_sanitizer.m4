# LARDER_SANITIZER
# --with-sanitizer=LIST: comma-separated values of -fsanitize=. Sets SANITIZER_FLAGS, and SANITIZER as an automake conditional.
AC_DEFUN([LARDER_SANITIZER], [
AC_ARG_WITH([sanitizer],
    [AS_HELP_STRING([--with-sanitizer=LIST], [compile with these sanitizers, e.g. address,undefined or thread])],
    [], [with_sanitizer=no])
AC_SUBST([SANITIZER_FLAGS])
AS_IF([test "x$with_sanitizer" != xno && test "x$with_sanitizer" != x], [
    SANITIZER_FLAGS="-fsanitize=$with_sanitizer -fno-sanitize-recover=all -fno-omit-frame-pointer"
    larder_cflags=$CFLAGS
    CFLAGS="$CFLAGS $SANITIZER_FLAGS"
    AC_MSG_CHECKING([whether $CC takes $SANITIZER_FLAGS])
    AC_LINK_IFELSE([AC_LANG_PROGRAM([], [])], [AC_MSG_RESULT([yes])], [
        AC_MSG_RESULT([no])
        AC_MSG_ERROR([$CC cannot link with $SANITIZER_FLAGS])])
    CFLAGS=$larder_cflags
])
AM_CONDITIONAL([SANITIZER], [test "x$SANITIZER_FLAGS" != x])
])
