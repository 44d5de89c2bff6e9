import KokoroBundle

/// A stage that a function of a package runs, held to what the manifest says.
struct PackagedStage<Input: StageInput, Output: StageOutput>: NetworkStage {
    /// Name of the stage, for messages and observers.
    let name: String
    let runner: any FunctionRunner
    /// Whether NaN and infinity are refused here.
    var refusesNonFinite = true
    var loadSeconds = 0.0
    var observer: StageObserver?

    func run(_ input: Input) async throws -> Output {
        try Task.checkCancellation()
        let function = runner.place.function
        let inputs = input.tensors
        try check(inputs, function.inputs, "input")
        let clock = ContinuousClock()
        let start = clock.now
        let outputs = try await runner.predict(inputs)
        let seconds = (clock.now - start).seconds
        try check(outputs, function.outputs, "output")
        if refusesNonFinite { try refuseNonFinite(outputs) }
        observer?(
            StageRun(
                stage: name, place: runner.place, inputs: inputs, outputs: outputs,
                seconds: seconds, loadSeconds: loadSeconds))
        return try Output(NamedTensors(stage: name, tensors: outputs))
    }

    private func check(
        _ tensors: [String: Tensor], _ ports: [Manifest.Tensor], _ kind: String
    ) throws {
        let names = Set(ports.map(\.name))
        guard names == Set(tensors.keys) else {
            throw failure(
                "has the \(kind)s \(names.sorted()), found \(tensors.keys.sorted())")
        }
        for port in ports {
            guard let tensor = tensors[port.name], tensor.type == port.type,
                tensor.shape == port.shape
            else {
                let found = tensors[port.name].map { "\($0.type.rawValue) \($0.shape)" } ?? "none"
                throw failure(
                    "has the \(kind) '\(port.name)' of \(port.type.rawValue) \(port.shape), "
                        + "found \(found)")
            }
        }
    }

    private func refuseNonFinite(_ outputs: [String: Tensor]) throws {
        for port in runner.place.function.outputs {
            guard try outputs[port.name]?.isFinite() != false else {
                throw KokoroError.parity("the stage \(name) gave NaN or infinity in '\(port.name)'")
            }
        }
    }

    private func failure(_ what: String) -> KokoroError {
        let place = runner.place
        return .package("\(place.package.file):\(place.function.name) \(what)")
    }
}

extension PackagedStage: EncoderStage where Input == EncoderInput, Output == EncoderOutput {}
extension PackagedStage: DurationStage where Input == DurationInput, Output == DurationOutput {}
extension PackagedStage: ProsodyStage where Input == ProsodyInput, Output == ProsodyOutput {}
extension PackagedStage: DecoderStage where Input == DecoderInput, Output == DecoderOutput {}
extension PackagedStage: SourceStage where Input == SourceInput, Output == SourceOutput {}
extension PackagedStage: GeneratorStage where Input == GeneratorInput, Output == GeneratorOutput {}
extension PackagedStage: TailStage where Input == TailInput, Output == TailOutput {}
extension PackagedStage: CompleteStage where Input == CompleteInput, Output == CompleteOutput {}

extension Duration {
    /// The length in seconds.
    var seconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}
