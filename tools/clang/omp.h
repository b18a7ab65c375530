/* omp.h: for clang, what the tree calls of OpenMP, as the standard declares it: the header of gcc uses attributes that
 * clang does not know, and clang's own belongs to another library. oneDNN runs on gcc's libgomp and a process should
 * have one pool of threads, so that is linked with clang, too. Clang makes no code for libgomp's pragmas: kernels run
 * on one thread.
 */
#ifndef DETENT_CLANG_OMP_H
#define DETENT_CLANG_OMP_H

int  omp_get_max_threads(void);
int  omp_get_num_threads(void);
int  omp_get_thread_limit(void);
int  omp_get_thread_num(void);
void omp_set_num_threads(int n);

#endif
