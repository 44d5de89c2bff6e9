// In the shapes F is the frame bucket, M the longest text in tokens, R the rows that time is folded
// in; the numbers are Kokoro-82M's. What holds is the manifest.

/// What `Prosody` takes.
public struct ProsodyInput: StageInput {
    /// From `Duration`: float32 [1, M, 640].
    public let encodedText: Tensor
    /// From `Duration`: float32 [1, 512, M].
    public let text: Tensor
    /// From `Duration`: frames per token, int32 [1, M].
    public let durations: Tensor
    /// One row of a voice, float32 [1, 256].
    public let style: Tensor

    /// Arrays of the shapes and types above.
    public init(encodedText: Tensor, text: Tensor, durations: Tensor, style: Tensor) {
        self.encodedText = encodedText
        self.text = text
        self.durations = durations
        self.style = style
    }

    /// By the packages' names.
    public var tensors: [String: Tensor] {
        [
            "d": encodedText,
            "text": text,
            "pred_dur": durations,
            "ref_s": style,
        ]
    }
}

/// What `Prosody` gives.
public struct ProsodyOutput: StageOutput {
    /// Hz, two positions per frame, 0 where padded; float32 [1, 2 F].
    public let pitch: Tensor
    /// Pitch and energy less their means, float16 [1, 2, 1, F].
    public let curves: Tensor
    /// The means of pitch and energy, float16 [1, 2, 1, 1].
    public let levels: Tensor
    /// Text aligned to frames, float16 [1, 512, 1, F].
    public let aligned: Tensor
    /// 1 for frames of speech, then 0; float16 [1, 1, 1, F].
    public let frameMask: Tensor

    /// Takes them out of what the stage gave.
    ///
    /// - Throws: `KokoroError.package` if one is missing.
    public init(_ outputs: NamedTensors) throws {
        pitch = try outputs.tensor("f0")
        curves = try outputs.tensor("curves")
        levels = try outputs.tensor("levels")
        aligned = try outputs.tensor("asr")
        frameMask = try outputs.tensor("frame_mask")
    }
}

/// What `Decoder` takes.
public struct DecoderInput: StageInput {
    /// From `Prosody`: float16 [1, 512, 1, F].
    public let aligned: Tensor
    /// From `Prosody`: float16 [1, 2, 1, F].
    public let curves: Tensor
    /// From `Prosody`: float16 [1, 2, 1, 1].
    public let levels: Tensor
    /// From `Prosody`: float16 [1, 1, 1, F].
    public let frameMask: Tensor
    /// From `Duration`: float16 [1, 9482, 1, 1].
    public let scale: Tensor
    /// From `Duration`: float16 [1, 9482, 1, 1].
    public let shift: Tensor

    /// Arrays of the shapes and types above.
    public init(
        aligned: Tensor, curves: Tensor, levels: Tensor, frameMask: Tensor, scale: Tensor,
        shift:
            Tensor
    ) {
        self.aligned = aligned
        self.curves = curves
        self.levels = levels
        self.frameMask = frameMask
        self.scale = scale
        self.shift = shift
    }

    /// By the packages' names.
    public var tensors: [String: Tensor] {
        [
            "asr": aligned,
            "curves": curves,
            "levels": levels,
            "frame_mask": frameMask,
            "decoder_scale": scale,
            "decoder_shift": shift,
        ]
    }
}

/// What `Decoder` gives.
public struct DecoderOutput: StageOutput {
    /// Folded into rows, float16 [1, 512, R, 288].
    public let features: Tensor

    /// Takes them out of what the stage gave.
    ///
    /// - Throws: `KokoroError.package` if one is missing.
    public init(_ outputs: NamedTensors) throws {
        features = try outputs.tensor("features")
    }
}

/// What `Source` takes.
public struct SourceInput: StageInput {
    /// From `Prosody`: Hz, float32 [1, 2 F].
    public let pitch: Tensor
    /// Frames of speech, int32 [1]: the sum of the durations.
    public let frames: Tensor
    /// Start of each harmonic in cycles, float32 [1, 9]; zeros are the original network.
    public let randomPhases: Tensor
    /// Unit Gaussian noise, one value per sample, float32 [1, 2 F, 300].
    public let noise: Tensor

    /// Arrays of the shapes and types above.
    public init(pitch: Tensor, frames: Tensor, randomPhases: Tensor, noise: Tensor) {
        self.pitch = pitch
        self.frames = frames
        self.randomPhases = randomPhases
        self.noise = noise
    }

    /// By the packages' names.
    public var tensors: [String: Tensor] {
        [
            "f0": pitch,
            "frames": frames,
            "random_phases": randomPhases,
            "noise": noise,
        ]
    }
}

/// What `Source` gives.
public struct SourceOutput: StageOutput {
    /// Magnitude and phase (radians) of the source in rows, float16 [1, 22, R, 15840].
    public let harmonics: Tensor
    /// 1 for speech at the first rate, float16 [1, 1, R, 2880].
    public let valid1: Tensor
    /// The same without the rows' neighbours, of the same shape.
    public let own1: Tensor
    /// Width of a row over the number of values, float16 [1, 1, 1, 1].
    public let share1: Tensor
    /// 1 for speech at the second rate, float16 [1, 1, R, 15840].
    public let valid2: Tensor
    /// The same without the rows' neighbours, of the same shape.
    public let own2: Tensor
    /// Width of a row over the number of values, float16 [1, 1, 1, 1].
    public let share2: Tensor

    /// Takes them out of what the stage gave.
    ///
    /// - Throws: `KokoroError.package` if one is missing.
    public init(_ outputs: NamedTensors) throws {
        harmonics = try outputs.tensor("har")
        valid1 = try outputs.tensor("valid_1")
        own1 = try outputs.tensor("own_1")
        share1 = try outputs.tensor("share_1")
        valid2 = try outputs.tensor("valid_2")
        own2 = try outputs.tensor("own_2")
        share2 = try outputs.tensor("share_2")
    }
}

/// What `Generator` takes.
public struct GeneratorInput: StageInput {
    /// From `Decoder`: float16 [1, 512, R, 288].
    public let features: Tensor
    /// From `Source`: float16 [1, 22, R, 15840].
    public let harmonics: Tensor
    /// From `Duration`: float16 [1, 9216, 1, 1].
    public let scale: Tensor
    /// From `Duration`: float16 [1, 9216, 1, 1].
    public let shift: Tensor
    /// From `Source`: float16 [1, 1, R, 2880].
    public let valid1: Tensor
    /// From `Source`: float16 [1, 1, R, 2880].
    public let own1: Tensor
    /// From `Source`: float16 [1, 1, 1, 1].
    public let share1: Tensor
    /// From `Source`: float16 [1, 1, R, 15840].
    public let valid2: Tensor
    /// From `Source`: float16 [1, 1, R, 15840].
    public let own2: Tensor
    /// From `Source`: float16 [1, 1, 1, 1].
    public let share2: Tensor

    /// Arrays of the shapes and types above.
    public init(
        features: Tensor, harmonics: Tensor, scale: Tensor, shift: Tensor, valid1: Tensor,
        own1:
            Tensor, share1: Tensor, valid2: Tensor, own2: Tensor, share2: Tensor
    ) {
        self.features = features
        self.harmonics = harmonics
        self.scale = scale
        self.shift = shift
        self.valid1 = valid1
        self.own1 = own1
        self.share1 = share1
        self.valid2 = valid2
        self.own2 = own2
        self.share2 = share2
    }

    /// By the packages' names.
    public var tensors: [String: Tensor] {
        [
            "features": features,
            "har": harmonics,
            "generator_scale": scale,
            "generator_shift": shift,
            "valid_1": valid1,
            "own_1": own1,
            "share_1": share1,
            "valid_2": valid2,
            "own_2": own2,
            "share_2": share2,
        ]
    }
}

/// What `Generator` gives.
public struct GeneratorOutput: StageOutput {
    /// In front of the last convolution, in rows, float16 [1, 128, R, 15840].
    public let hidden: Tensor

    /// Takes them out of what the stage gave.
    ///
    /// - Throws: `KokoroError.package` if one is missing.
    public init(_ outputs: NamedTensors) throws {
        hidden = try outputs.tensor("hidden")
    }
}

/// What `Tail` takes.
public struct TailInput: StageInput {
    /// From `Generator`: float16 [1, 128, R, 15840].
    public let hidden: Tensor
    /// Frames of speech, int32 [1].
    public let frames: Tensor

    /// Arrays of the shapes and types above.
    public init(hidden: Tensor, frames: Tensor) {
        self.hidden = hidden
        self.frames = frames
    }

    /// By the packages' names.
    public var tensors: [String: Tensor] {
        [
            "hidden": hidden,
            "frames": frames,
        ]
    }
}

/// What `Tail` gives.
public struct TailOutput: StageOutput {
    /// Samples, float32 [1, 600 F]; silent behind the speech.
    public let audio: Tensor

    /// Takes them out of what the stage gave.
    ///
    /// - Throws: `KokoroError.package` if one is missing.
    public init(_ outputs: NamedTensors) throws {
        audio = try outputs.tensor("audio")
    }
}
