# Every input read by all the checks of the readers, and written as NIfTI.


rule convert:
    input:
        chunk="chunks/{chunk}.json",
    output:
        touch("done/convert/{chunk}"),
    log:
        "logs/convert/{chunk}.log",
    shell:
        "exec {config[mrisr]} stage convert --chunk {input.chunk} > {log} 2>&1"
