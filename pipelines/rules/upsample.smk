# The super-resolved volumes.


rule upsample:
    input:
        chunk="chunks/{chunk}.json",
        before="done/convert/{chunk}",
    output:
        touch("done/upsample/{chunk}"),
    log:
        "logs/upsample/{chunk}.log",
    shell:
        "exec {config[mrisr]} stage upsample --chunk {input.chunk} > {log} 2>&1"
