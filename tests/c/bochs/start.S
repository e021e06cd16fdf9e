/* A ROM in place of the BIOS: from reset to 64-bit C with every vector register file enabled. */
    .set PAGES, 0x1000 /* three page tables, in RAM */
    .set STACK, 0x80000

    .section .start, "ax"
    .code16
start:
    cli
    movw $0xf000, %ax /* the ROM's last 128 KiB lie below 1 MiB too */
    movw %ax, %ds
    lgdtl gdt_pointer - 0xf0000
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpl $8, $protected

    .code32
protected:
    movw $16, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $0xfffc0000, %esi /* the library: from ROM to where it is linked */
    movl $0x100000, %edi
    movl $0x3f000 / 4, %ecx
    rep movsl
    /* identity pages for the first gibibyte, 2 MiB each */
    movl $PAGES, %edi
    xorl %eax, %eax
    movl $0xc00, %ecx
    rep stosl
    movl $PAGES + 0x1000 + 3, PAGES
    movl $PAGES + 0x2000 + 3, PAGES + 0x1000
    movl $0x83, %eax
    movl $PAGES + 0x2000, %edi
1:  movl %eax, (%edi)
    addl $0x200000, %eax
    addl $8, %edi
    cmpl $PAGES + 0x3000, %edi
    jb 1b
    movl $0x6a0, %eax /* PAE, PGE, OSFXSR, OSXMMEXCPT */
    movl %eax, %cr4
    movl $PAGES, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x100, %eax /* long mode */
    wrmsr
    movl %cr0, %eax
    andl $~0x6000000c, %eax /* caches on, x87 present */
    orl $0x80000002, %eax   /* paging */
    movl %eax, %cr0
    ljmpl $24, $long_mode

    .code64
long_mode:
    movl $STACK, %esp
    /* every register file that this CPU model has */
    movl $1, %eax
    cpuid
    btl $26, %ecx /* XSAVE */
    jnc 1f
    movq %cr4, %rax
    btsl $18, %eax /* OSXSAVE */
    movq %rax, %cr4
    movl $0xd, %eax
    xorl %ecx, %ecx
    cpuid
    andl $0xe7, %eax /* x87, xmm, ymm, masks, zmm */
    xorl %ecx, %ecx
    xorl %edx, %edx
    xsetbv
1:
    call payload
    hlt

    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9a000000ffff /* 8: 32-bit code */
    .quad 0x00cf92000000ffff /* 16: data */
    .quad 0x00af9a000000ffff /* 24: 64-bit code */
gdt_pointer:
    .word 31
    .long gdt

    .section .reset, "ax"
    .code16
    ljmpw $0xf000, $start - 0xf0000

    .section .note.GNU-stack, "", @progbits
