# mypy: ignore-errors
"""Module of 3D Slicer: a volume, a job, and the result with its picture, made by the installed command.

How to add it to Slicer: docs/how-to/slicer.md. What does not concern Qt stands in ``mrisr_command``.
"""

import shutil
import tempfile
from pathlib import Path

import qt
import slicer
from mrisr_command import JOBS, VOLUME, Result, Run, find_program
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleWidget

_SETTING = "mrisr/program"
_LOOK_MS = 500


class MrisrSuperResolution(ScriptedLoadableModule):
    """The module as Slicer lists it."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "mrisr: super-resolution"
        parent.categories = ["Filtering"]
        parent.contributors = ["The mrisr developers"]
        parent.helpText = "Super-resolution of prostate MRI and its zones. For research use only."


class MrisrSuperResolutionWidget(ScriptedLoadableModuleWidget):
    """The panel: volume, job, scale, program; start and stop; what came of it."""

    def setup(self):
        """Build the panel."""
        ScriptedLoadableModuleWidget.setup(self)
        self.volume = slicer.qMRMLNodeComboBox()
        self.volume.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        self.volume.addEnabled = self.volume.removeEnabled = False
        self.volume.setMRMLScene(slicer.mrmlScene)
        self.job = qt.QComboBox()
        self.job.addItems(list(JOBS))
        self.scale = qt.QDoubleSpinBox()
        _, (_, default, low, high) = JOBS["inplane"]
        self.scale.setRange(low, high)
        self.scale.value = default
        self.program = qt.QLineEdit(qt.QSettings().value(_SETTING, ""))
        self.program.placeholderText = "mrisr, as the search path has it"
        self.button = qt.QPushButton("Start")
        self.told, self.picture = qt.QLabel(), qt.QLabel()
        self.told.wordWrap = True
        form = qt.QFormLayout()
        for label, part in (
            ("Volume", self.volume),
            ("Job", self.job),
            ("Scale", self.scale),
            ("Program", self.program),
            ("", self.button),
            ("", self.told),
            ("", self.picture),
        ):
            form.addRow(label, part)
        self.layout.addLayout(form)
        self.layout.addStretch(1)
        self.timer = qt.QTimer()
        self.timer.setInterval(_LOOK_MS)
        self.timer.timeout.connect(self._look)
        self.job.currentTextChanged.connect(
            lambda job: setattr(self.scale, "enabled", JOBS[job][1] is not None)
        )
        self.button.clicked.connect(self._start_or_stop)
        self.run = None

    def cleanup(self):
        """Stop what runs when Slicer closes the module."""
        if self.run is not None:
            self._end("")

    def _start_or_stop(self):
        if self.run is not None:
            self._end("stopped")
            return
        node = self.volume.currentNode()
        if node is None:
            self.told.text = "choose a volume"
            return
        folder = Path(tempfile.mkdtemp(prefix="mrisr-"))
        self.node = node
        self.run = Run("", folder, self.job.currentText, self.scale.value)
        try:
            self.run.program = find_program(self.program.text)
            qt.QSettings().setValue(_SETTING, self.program.text)
            slicer.util.saveNode(node, str(folder / VOLUME))
            self.run.start()
        except (OSError, RuntimeError) as error:
            self._end(str(error))
            return
        self.button.text, self.told.text = "Stop", "running ..."
        self.timer.start()

    def _look(self):
        if self.run.running:
            return
        try:
            self._show(self.run.result())
        except RuntimeError as error:
            self._end(str(error))

    def _show(self, result: Result):
        """Load the result over the volume, and the picture into the panel."""
        name = f"{self.node.GetName()} {self.run.job}"
        if self.run.job == "segment":
            made = slicer.util.loadLabelVolume(str(result.path), {"name": name})
            slicer.util.setSliceViewerLayers(background=self.node, label=made, labelOpacity=0.4)
        else:
            made = slicer.util.loadVolume(str(result.path), {"name": name})
            made.GetDisplayNode().CopyContent(self.node.GetDisplayNode())
            slicer.util.setSliceViewerLayers(
                background=self.node, foreground=made, foregroundOpacity=1
            )
        picture = qt.QPixmap(str(result.picture))
        self.picture.setPixmap(picture.scaledToWidth(420, qt.Qt.SmoothTransformation))
        self._end(result.summary)

    def _end(self, text):
        """Be ready for another run; nothing is left of this one on the disk."""
        self.timer.stop()
        self.run.stop()
        shutil.rmtree(self.run.folder, ignore_errors=True)
        self.run = None
        self.button.text, self.told.text = "Start", text
